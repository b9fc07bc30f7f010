"""Thousands of comparisons of planted networks: their concepts on other test images, quickly."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jaxtyping
import pytest
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from cavalcade import folders, runs
from cavalcade.backbones import FrozenBackbone
from cavalcade.comparing import analysis
from cavalcade.concepts.encoding import Encoding, pack
from cavalcade.data import ConceptBatch
from cavalcade.data.groups import contiguous_blocks
from cavalcade.runs import ProbedRun, Run, load_run, write_halves, write_run
from cavalcade.similarity import concept_cells, group_chance, group_counts, nearer
from cavalcade.thumbnails import Thumbnails
from cavalcade.truth import Truth
from planted import SIDE, Scenes


def as_seen(pictures: Tensor) -> Tensor:
    """Images as they reach either network."""
    return (pictures.float() / 255 - 0.5) / 0.5


def seen_again(
    home: Path, fitted: Sequence[Run], backbones: Sequence[FrozenBackbone], data: Scenes
) -> list[Run]:
    """Some runs with the concepts as they were fitted, on other test images.

    Args:
        home: of the data set; a folder that is made.
        fitted: with the concepts.
        backbones: of each its network.
        data: whose test images are looked at; its labels as those of the runs.
    """
    test = data.split("test")
    images = torch.stack([test.image(k) for k in range(len(test))])
    masks = torch.stack([test.labels(k).masks for k in range(len(test))])
    truth = Truth(
        data=data.name,
        fingerprint=f"{data.test_seed:012}",
        grid=(SIDE, SIDE),
        concepts=test.concepts,
        ids=test.ids,
        groups=test.groups,
        blocks=tuple(contiguous_blocks(test.groups)),
        masks=pack(masks),
        labelled=pack(torch.ones_like(masks)),
        thumbnail_size=None,
        thumbnails=Thumbnails(()),
    )
    truth.save(home / "truth")
    found = []
    for run, backbone in zip(fitted, backbones, strict=True):
        halves = tuple(run._half_sets.values()) if isinstance(run, ProbedRun) else ()
        encoding = Encoding(backbone, run.concept_set, (SIDE, SIDE), "test", halves=halves)
        for positions in torch.arange(len(images)).split(64):
            seen = as_seen(images[positions])
            frames = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).expand(len(seen), -1)
            encoding.test_step(
                ConceptBatch(seen, frames, masks[positions], masks[positions], {}, positions)
            )
        encoded = encoding.result()
        assert encoded is not None
        folder = home / run.method / run.path.name
        folder.mkdir(parents=True)
        if halves:
            write_halves(folder, halves, encoded.halves)
        meta = {key: run.meta[key] for key in ("label", "random", "method", "identity", "concepts")}
        meta |= {"data": run.meta["data"] | {"test": truth.fingerprint}, "digest": "planted"}
        write_run(folder, meta=meta, layers=run.layers, concepts=run.concept_set, encoded=encoded)
        found.append(load_run(folder))
    return found


@contextmanager
def in_one_thread() -> Iterator[None]:
    """Thousands of small comparisons one after the other: threads would only cost time.

    So would the shapes that are checked at every call under pytest, which other tests see to.
    """

    def one_by_one(work: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        return map(work, items)

    with pytest.MonkeyPatch.context() as patched, threadpool_limits(1):
        for module in (analysis, concept_cells, group_chance, group_counts, nearer):
            patched.setattr(module, "in_threads", one_by_one)
        patched.setattr(jaxtyping.config, "jaxtyping_disable", True)
        patched.setattr(folders, "sync", lambda _: None)
        patched.setattr(runs, "version", lambda _: "0")
        yield
