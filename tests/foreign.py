"""Folders as somebody else may have made them: changed, and their checksums made to fit."""

import copy
import json
import shutil
from functools import partial

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from cavalcade.comparing.comparable import check_comparable, say_differences
from cavalcade.concepts import Factorisation, Probes
from cavalcade.folders import write_meta
from cavalcade.runs import MinedRun, load_run
from cavalcade.table_files import read_table, write_table
from fuzzing import found_at, places, refusal
from tiny import PlantedSquares, tiny_backbone, tiny_data, tiny_visit

METHODS = {
    "probed": lambda: Probes(),
    "mined": lambda: Factorisation(num_concepts=2, rows=200, restarts=0),
}
SETTLED = ("kind", "format", "files")  # what `write_meta` adds


def visit_squares(root, method, label="net", grid=(18, 18)):
    """A small run of a grid whose last byte has bits to spare."""
    backbone = tiny_backbone(label=label)
    data = PlantedSquares(grid=grid, counts={"train": 12, "val": 4, "test": 6})
    return tiny_visit(root, backbone, data=tiny_data(backbone, data), method=METHODS[method]())


def meta_of(folder):
    return json.loads((folder / "meta.json").read_text())


def reseal(folder, **changes):
    """Write `meta.json` anew, as whoever has changed files and wants nobody to see it."""
    meta = meta_of(folder)
    kept = {key: value for key, value in (meta | changes).items() if key not in SETTLED}
    write_meta(folder, meta["kind"], kept)


def leaves(value):
    """Where all fields are, objects and lists too; of a list the first entry alone."""
    return [way for way in places(value) if way and not any(isinstance(k, int) and k for k in way)]


def changed(meta, path, value):
    """The same with another value at a place."""
    meta = copy.deepcopy(meta)
    *outer, last = path
    if value is GONE:
        del found_at(meta, outer)[last]
    else:
        found_at(meta, outer)[last] = value
    return meta


GONE = object()


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


def read_all(path):
    """Everything that a comparison reads of a run."""
    run = load_run(path)
    check_comparable([run, run])
    say_differences([run, run])
    assert run.architecture.isprintable()
    assert run.weights.isprintable()
    firing = [run.stored_firing()] if isinstance(run, MinedRun) else []
    if isinstance(run, MinedRun):
        assert len(run.table) == len(run.concepts)
        assert len(run.names) in (0, len(run.concepts))
    else:
        run.score_matrix()
        halves = (None, 1, 2) if run.has_halves else (None,)
        firing += [run.stored_firing(0, half) for half in halves]
    for each in firing:
        each.mask_bits(np.arange(len(run.truth.ids)))
    for layer in run.layers:
        run.masks(layer.name)
        run.strengths(layer.name)
        run.features(layer.name)
    for k in range(len(run.truth.thumbnails)):
        run.truth.thumbnails[k]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run of each method, on the same truth."""
    root = tmp_path_factory.mktemp("runs")
    return {method: visit_squares(root, method) for method in METHODS}


@pytest.fixture
def folders(runs, tmp_path):
    """Copies, which may be spoilt."""
    home = runs["probed"].parents[1]
    copied = shutil.copytree(home, tmp_path / "runs" / home.name)
    return {method: copied / path.relative_to(home) for method, path in runs.items()}


def truth_of(folder):
    return folder.parents[1] / "truth"


def read_refused(folder, *paths):
    """The sentence with which a run is refused, which names one of the paths; None if it is not."""
    return refusal(partial(read_all, folder), *paths)


def spoilt(tensors):
    """Ways in which the tensors of a file may not be what they should, by name."""
    first = next(iter(tensors))
    one = tensors[first]
    kinds = {
        "a tensor gone": {k: v for k, v in tensors.items() if k != first},
        "an image less": {**tensors, first: one[:-1]},
        "an axis more": {**tensors, first: one[..., None]},
        "the last axis longer": {**tensors, first: np.concatenate([one, one], axis=-1)},
        "none of it": {**tensors, first: one[:0]},
        "another type": {**tensors, first: one.astype(np.int16)},
    }
    if one.dtype == np.uint8 and one.ndim > 1:
        kinds["bits beyond the grid"] = {**tensors, first: one | 1}
    if one.dtype == np.float32 and one.size:
        for name, value in (("a NaN", np.nan), ("infinite", np.inf)):
            bad = one.copy()
            bad.flat[0] = value
            kinds[name] = {**tensors, first: bad}
    return kinds


def renamed(folder, layers, concepts):
    """Call layers and concepts of a run and its truth otherwise, by what they are called.

    Checksums are made to fit.
    """
    meta = meta_of(folder)
    called = [layer | {"name": layers[layer["name"]]} for layer in meta["layers"]]
    named = [concepts[name] for name in meta["concepts"]]
    for path in folder.rglob("*.safetensors"):
        save_file(
            {_key(path, key, layers): x for key, x in load_file(path).items()},
            path,
            metadata=_described(path, layers, concepts),
        )
    for path in folder.glob("*.csv"):
        table = read_table(path)
        for column, names in (("layer", layers), ("concept", concepts), ("label", concepts),
                              ("second", concepts)):  # fmt: skip
            if column in table:
                table[column] = table[column].map(lambda x, names=names: names.get(x, x))
        write_table(table, path)
    reseal(folder, layers=called, concepts=named)
    reseal(folder.parents[1] / "truth", concepts=named)


def _key(path, key, layers):
    """What a tensor of a layer is called in a file."""
    if path.stem == "masks":  # layers/<layer>, or the number of a half
        before, _, name = key.partition("/")
        return f"{before}/{layers[name]}" if name else key
    name, slash, after = key.partition("/")
    return f"{layers[name]}{slash}{after}"


def _described(path, layers, concepts):
    with safe_open(path, framework="np") as file:
        said = json.loads((file.metadata() or {}).get("layers", "null"))
    if said is None:
        return None
    for own in said.values():
        own["names"] = [concepts.get(name, name) for name in own["names"]]
    return {"layers": json.dumps({layers[name]: own for name, own in said.items()})}
