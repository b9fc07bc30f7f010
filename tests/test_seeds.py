"""Any seed that a run may be made with, it may be read with; others are refused at the start."""

from random import Random

import pytest

from cavalcade import InputError
from cavalcade.concepts import Factorisation, Probes
from cavalcade.errors import check_whole
from cavalcade.meta_fields import MOST_SEED
from cavalcade.run_fields import RunFields
from cavalcade.runs import load_run
from foreign import meta_of
from hardening import STOPPED
from tiny import tiny_backbone, tiny_data, tiny_visit

METHODS = {
    "probed": lambda: Probes(),
    "mined by k-means": lambda: Factorisation(
        method="kmeans", num_concepts=2, rows=200, restarts=1
    ),
}


@pytest.mark.parametrize("method", METHODS)
def test_a_run_of_any_seed_can_be_read(tmp_path, method, tried):
    backbone = tiny_backbone()
    data = tiny_data(backbone, seed=MOST_SEED)
    folder = tiny_visit(tmp_path, backbone, data=data, method=METHODS[method]())
    assert load_run(folder).meta["identity"]["seed"] == MOST_SEED
    meta, path = meta_of(folder), folder / "meta.json"

    drawn = Random(0)
    seeds = [0, 2**31, 3_000_000_000, MOST_SEED, *(drawn.randint(0, MOST_SEED) for _ in range(46))]
    for seed in seeds:
        check_whole("seed", seed, 0, MOST_SEED)
        RunFields.of(meta | {"identity": meta["identity"] | {"seed": seed}}, path)
    tried("numbers", "the meta.json of a run with a seed of up to 63 bits", "not refused",
          len(seeds))  # fmt: skip


@pytest.mark.parametrize("seed", [-1, MOST_SEED + 1, True])
def test_other_seeds_are_refused_before_anything_is_read(seed, tried):
    with pytest.raises(InputError, match=f"^seed is {seed}; give a whole number from 0 to"):
        tiny_data(tiny_backbone(), seed=seed)
    tried("numbers", "a seed that is none", STOPPED)
