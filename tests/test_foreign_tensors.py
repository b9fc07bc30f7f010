"""Tensors and tables of run folders, whose checksums fit, are what they must be or are named."""

import json
import struct

import pytest
from safetensors.numpy import load_file, save_file

from foreign import (
    METHODS,
    folders,
    meta_of,
    read_all,
    read_refused,
    reseal,
    runs,
    spoilt,
    truth_of,
)
from hardening import REFUSED

assert runs, folders
TENSORS = ("concepts", "masks", "features", "strengths", "halves/1", "halves/masks")


@pytest.mark.parametrize("method", METHODS)
def test_tensors_that_do_not_fit_are_named(folders, method, tried):
    """With checksums that do."""
    folder, refused = folders[method], 0
    home = truth_of(folder)
    places = [(folder, f"{name}.safetensors") for name in TENSORS]
    places += [(home, "masks.safetensors"), (home, "thumbnails.safetensors")]
    for place, name in (each for each in places if (each[0] / each[1]).exists()):
        path = place / name
        content, meta = path.read_bytes(), (place / "meta.json").read_text()
        tensors = load_file(path)
        for first in tensors:
            turned = {first: tensors[first], **tensors}
            for kind, bad in spoilt(turned).items():
                if (kind, first[-10:]) == ("a NaN", "thresholds"):
                    continue  # of a concept that was not found
                if (kind, path.stem) == ("infinite", "strengths"):
                    continue  # as earlier versions left it for a concept that never is weak
                if (kind, path.stem) == ("the last axis longer", "thumbnails"):
                    continue  # what follows a picture is none of it
                save_file(bad, path, metadata=saved(content))
                reseal(place)
                sentence = read_refused(folder, path, path.name)
                assert path.name in (sentence or ""), (name, first, kind, sentence)
                refused += 1
        path.write_bytes(content)
        (place / "meta.json").write_text(meta)
    read_all(folder)
    tried("folders", "tensors of other shapes, types or numbers, checksums made to fit", REFUSED,
          refused)  # fmt: skip


def saved(content):
    """The metadata in the header of a safetensors file."""
    size = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + size]).get("__metadata__")


def header(content, **changes):
    """A file whose header says something else of its first tensor."""
    size = struct.unpack("<Q", content[:8])[0]
    said_there = json.loads(content[8 : 8 + size])
    name = next(key for key in said_there if key != "__metadata__")
    said_there[name] |= changes
    text = json.dumps(said_there).encode()
    return struct.pack("<Q", len(text)) + text + content[8 + size :]


LIES = {
    "length of 2^60": lambda c: struct.pack("<Q", 2**60) + c[8:],
    "length of 2^63": lambda c: struct.pack("<Q", 2**63) + c[8:],
    "length beyond the file": lambda c: struct.pack("<Q", len(c)) + c[8:],
    "length 0": lambda c: struct.pack("<Q", 0) + c[8:],
    "no JSON": lambda c: struct.pack("<Q", 100) + b"\xff" * 100 + c[8:],
    "deep JSON": lambda c: struct.pack("<Q", 200_000) + b"[" * 200_000 + c[8:],
    "a list": lambda _: struct.pack("<Q", 2) + b"[]",
    "offsets beyond the file": lambda c: header(c, data_offsets=[0, 2**40]),
    "offsets of another tensor": lambda c: header(c, data_offsets=[8, 16]),
    "offsets that are turned": lambda c: header(c, data_offsets=[16, 0]),
    "offsets below 0": lambda c: header(c, data_offsets=[-8, 0]),
    "offsets of text": lambda c: header(c, data_offsets=["0", "8"]),
    "a shape of 2^40": lambda c: header(c, shape=[2**40, 2**40]),
    "a shape below 0": lambda c: header(c, shape=[-1, -1]),
    "a type that is none": lambda c: header(c, dtype="U7"),
    "cut after the header": lambda c: c[: 8 + struct.unpack("<Q", c[:8])[0]],
}


@pytest.mark.parametrize("lie", LIES)
def test_headers_that_lie_are_named(folders, lie, tried):
    refused = 0
    for method, folder in folders.items():
        home = truth_of(folder)
        for place in (folder, home) if method == "probed" else (folder,):
            for path in sorted(place.rglob("*.safetensors")):
                content = path.read_bytes()
                path.write_bytes(LIES[lie](content))
                reseal(place)
                assert path.name in (read_refused(folder, path, path.name) or ""), path
                path.write_bytes(content)
                reseal(place)
                refused += 1
    tried("folders", "a safetensors header that lies", REFUSED, refused)


NEEDED = {  # by galleries, pages and findings
    "scores": (
        *("layer", "depth", "concept", "split", "jaccard", "jaccard_per_image"),
        *("area_ratio", "area_with", "area_without"),
    ),
    "concepts": ("layer", "depth", "concept", "reproducibility", "relative_error", "area"),
    "names": (
        *("layer", "depth", "concept", "label", "jaccard", "adjusted", "stderr", "second"),
        *("second_adjusted", "sure", "named", "area_with", "area_without"),
    ),
}


def harmful_tables(text, needed):
    first, *rows = text.splitlines(keepends=True)
    names = first.strip().split(",")
    numbers = names.index("jaccard" if "jaccard" in names else "area")

    cells = [line.split(",") for line in text.splitlines()]

    def joined(lines):
        return "".join(",".join(line) + "\n" for line in lines)

    def changed(line, value):
        return [*line[:numbers], value, *line[numbers + 1 :]]

    def with_cell(value):
        return joined([names, changed(cells[1], value), *cells[2:]])

    def without(column):
        at = names.index(column)
        return joined([*line[:at], *line[at + 1 :]] for line in cells)

    return {f"without {column}": without(column) for column in needed} | {
        "empty": "",
        "no rows": first,
        "a row less": first + "".join(rows[:-1]),
        "a row twice": text + rows[0],
        "rows turned": first + "".join(reversed(rows)),
        "no end": text + rows[0] * 200_000,
        "a column called otherwise": text.replace(names[numbers], "other"),
        "text for a number": with_cell("many"),
        "true for numbers": joined([names, *(changed(line, "True") for line in cells[1:])]),
        "more than all": with_cell("7"),
        "less than none": with_cell("-0.1"),
        "infinite": with_cell("inf"),
        "a number that is too large": with_cell("9" * 400),
        "a cell more": first + rows[0].rstrip("\n") + ",1\n" + "".join(rows[1:]),
        "a quotation that never ends": first + '"' + "".join(rows),
        "not UTF-8": (first + "".join(rows)).encode()[:-3] + b"\xff\xfe\n",
        "another layer": first + rows[0].replace(rows[0].split(",")[0], "elsewhere", 1)
        + "".join(rows[1:]),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("method", "name"), [("probed", "scores"), ("mined", "concepts"), ("mined", "names")]
)
def test_tables_that_do_not_fit_are_named(folders, method, name, tried):
    folder = folders[method]
    path = folder / f"{name}.csv"
    kinds = harmful_tables(path.read_text(), NEEDED[name])
    for kind, bad in kinds.items():
        path.write_bytes(bad if isinstance(bad, bytes) else bad.encode())
        reseal(folder)
        assert path.name in (read_refused(folder, path, path.name) or ""), kind
    what = "a table with missing, extra or invalid rows and columns, checksums made to fit"
    tried("folders", what, REFUSED,
          len(kinds))  # fmt: skip


def test_a_truth_of_other_images_is_not_taken(folders, tried):
    """Of the same names and numbers, at the place of the right one."""
    folder = folders["probed"]
    home = truth_of(folder)
    meta = meta_of(home)
    for change in (
        {"fingerprint": "0" * 64},
        {"data": "others"},
        {"concepts": meta["concepts"][::-1]},
        {"grid": meta["grid"][::-1] if meta["grid"][0] != meta["grid"][1] else [9, 36]},
    ):
        reseal(home, **change)
        assert read_refused(folder, home).startswith(f"{home} is of other test images, concepts or")
        reseal(home, **{key: meta[key] for key in change})
    read_all(folder)
    tried("folders", "the truth of other test images beside a run", REFUSED, 4)
