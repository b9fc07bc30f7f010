"""Run folders of others are data: refused in one sentence, or read as what they are."""

import json
import os
import shutil
import struct
from functools import partial

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings
from safetensors.numpy import load_file, save_file

from cavalcade.comparing.comparable import find_runs, latest_runs
from cavalcade.folders import kind_of
from cavalcade.meta_fields import lies_within
from cavalcade.runs import load_run
from cavalcade.truth import Truth
from faults import Child, no_child_is_left  # noqa: F401
from foreign import (
    GONE,
    METHODS,
    changed,
    leaves,
    meta_of,
    nested,
    read_all,
    reseal,
    said,
    spoilt,
    visit_squares,
)

NAMED, AS_IT_WAS = "refused in one sentence that names the file", "read as it was"
FREE = "read, since anything may stand there"
few = partial(
    settings,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


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


def files_in(folder):
    """All files of a run and of its truth."""
    parts = (folder, truth_of(folder))
    return [p for part in parts for p in sorted(part.rglob("*")) if p.is_file()]


def harmed(content, kind, where, other):
    """The bytes of a file after it was spoilt."""
    place = int(where * max(len(content) - 1, 0))
    if kind == "cut short":
        return content[:place]
    if kind == "emptied":
        return b""
    if kind == "one byte changed":
        return content[:place] + bytes([content[place] ^ 0x11]) + content[place + 1 :]
    if kind == "longer":
        return content + b"\0"
    return other


HARMS = ("cut short", "emptied", "one byte changed", "longer", "another file")


@pytest.mark.parametrize("method", METHODS)
def test_files_that_are_not_as_they_were_written_are_named(folders, method, tried):
    folder, refused = folders[method], dict.fromkeys(HARMS, 0)
    files = [path for path in files_in(folder) if path.name != "meta.json"]

    @few(max_examples=100)
    @given(st.sampled_from(files), st.sampled_from(HARMS), st.floats(0, 1), st.sampled_from(files))
    def spoil(path, kind, where, other):
        content = path.read_bytes()
        bad = harmed(content, kind, where, other.read_bytes())
        if bad == content:
            return
        path.write_bytes(bad)
        try:
            assert path.name in (said(read_all, folder) or "")
        finally:
            path.write_bytes(content)
        refused[kind] += 1

    spoil()
    read_all(folder)
    for kind, times in refused.items():
        tried("folders", f"a file of a run folder {kind}", NAMED, times)


@pytest.mark.parametrize("method", METHODS)
def test_files_that_are_gone_or_none_are_named(folders, method, tried):
    folder = folders[method]
    files = files_in(folder)
    for path in files:
        aside = path.with_name("aside")
        path.rename(aside)
        for put in (lambda _: None, os.mkdir, os.mkfifo, partial(os.symlink, path.name)):
            put(path)
            sentence = said(read_all, folder)
            assert sentence is not None
            assert path.name in sentence
            if put is os.mkdir:
                path.rmdir()
            else:
                path.unlink(missing_ok=True)
        aside.rename(path)
    read_all(folder)
    tried("folders", "a file gone, or a folder, a pipe or a loop", NAMED, 4 * len(files))


@pytest.mark.parametrize("method", METHODS)
def test_bytes_of_meta_json_are_changed(folders, method, tried):
    """What it says may still be something: then it is read as that."""
    path, found = folders[method] / "meta.json", {True: 0, False: 0}
    content = path.read_bytes()

    @few(max_examples=100)
    @given(st.integers(0, len(content) - 1), st.integers(1, 255))
    def spoil(place, change):
        path.write_bytes(content[:place] + bytes([content[place] ^ change]) + content[place + 1 :])
        sentence = said(read_all, folders[method])
        assert sentence is None or str(folders[method].parents[1]) in sentence
        found[sentence is None] += 1

    spoil()
    assert all(found.values())
    tried(
        "folders",
        "one byte of meta.json changed",
        "refused in one sentence, or read as what it says",
        sum(found.values()),
    )


BAD = (
    *(None, True, -1, 0, 10**30, 1e999, float("nan"), 0.5, "", "../../x"),
    *("\x1b[2J", "x" * 10_000, [], {}, [None], nested(29), GONE),
)


def decides(path):
    """Whether a field is one of ours, and not a setting of somebody's network or method."""
    free = (
        "preprocessing",
        "layers",
        "layouts",
        "settings",
        "method",
        "trainer",
        "grid",
        "concepts",
    )
    return not (
        (path[0] == "versions" and len(path) > 1)
        or (path[0] == "identity" and any(each in free for each in path[1:-1]))
        or (path[0] == "files" and len(path) > 1 and path[-1] not in NEEDED[:2])
    )


NEEDED = (  # files; without others a run has no halves, labels or pictures
    *(f"{name}.safetensors" for name in ("concepts", "masks", "strengths", "features")),
    *("scores.csv", "concepts.csv"),
)


def may_stand(path, value):
    """Whether a value decides on no number, or means that there is something else."""
    if path[0] in ("versions", "identity") or (path[0] == "files" and path[-1] not in NEEDED):
        return path[0] != "files" or value is GONE
    if path in (("digest",), ("label",), ("method",)):
        return value in ("a/b", "../../x") and path == ("digest",)
    if path == ("random",):
        return value is True
    if path[0] == "ids":
        return isinstance(value, str)  # what images are called
    if path[0] == "groups":
        return isinstance(value, str)
    if path == ("thumbnail_size",):
        return value is None or value is GONE
    if path[-1] == "depth" or path[-1] == "stride":
        return value == 0.5
    if path[-1] == "trunk":
        return value is True
    return False


@pytest.mark.slow
@pytest.mark.parametrize("part", ["probed", "mined", "truth"])
def test_every_field_of_meta_json_is_what_it_must_be(folders, part, tried):
    folder = folders["probed"] if part == "truth" else folders[part]
    place = truth_of(folder) if part == "truth" else folder
    meta, path, found = meta_of(place), place / "meta.json", {NAMED: 0, FREE: 0}
    for where in leaves(meta):
        for value in BAD if decides(where) else (None, nested(29)):
            if changed(meta, where, value) == meta:
                continue
            path.write_text(json.dumps(changed(meta, where, value)))
            sentence = said(read_all, folder)
            if sentence is None:
                assert may_stand(where, value), (where, value)
            else:
                assert "meta.json" in sentence or str(folder.parents[1]) in sentence, sentence
            found[FREE if sentence is None else NAMED] += 1
    path.write_text(json.dumps(meta))
    read_all(folder)
    for happened, times in found.items():
        tried("folders", "a field of meta.json that is something else", happened, times)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b'"run"',
        b"\xff\xfe{}",
        b"{" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 5000 + b"1" + b"}" * 5000,
        b'{"kind": "run", "format": ' + b"9" * 5000 + b"}",
        b'{"kind": "run", "label": "\\ud800", "format": 1, "files": {}}',
        b'{"kind": "run", "format": 1, "files": []}',
        b'{"kind": "run", "format": 1, "files": {"a": 1}}',
        b'{"kind": ["run"], "format": 1, "files": {}}',
        b'{"kind": "run", "format": true, "files": {}}',
    ],
)
def test_a_meta_json_that_is_none(folders, content, tried):
    path = folders["probed"] / "meta.json"
    path.write_bytes(content)
    assert str(path) in said(load_run, path.parent)
    assert kind_of(path.parent) in (None, "run")
    assert said(find_runs, [path.parent])
    latest_runs(path.parents[3])  # the other method's
    tried("folders", "a meta.json that is no JSON, or far too deep", NAMED)


def test_a_meta_json_that_is_huge(folders, tried):
    path = folders["probed"] / "meta.json"
    with path.open("wb") as file:
        file.truncate(2**40)  # takes no room
    assert "has more than 100000000 bytes" in said(load_run, path.parent)
    tried("folders", "a meta.json of a terabyte", NAMED)


ELSEWHERE = (
    "../x",
    "../truth/meta.json",
    "/etc/hostname",
    "a/../../x",
    "..",
    "",
    ".",
    "a\\b",
    "\0",
)


@pytest.mark.parametrize("name", ELSEWHERE)
def test_files_that_meta_json_lists_lie_in_the_folder(folders, name, tried):
    folder = folders["probed"]
    meta = meta_of(folder)
    meta["files"][name] = "0" * 64
    (folder / "meta.json").write_text(json.dumps(meta))
    assert "which is no file of its folder" in said(load_run, folder)
    tried("folders", "meta.json lists a file elsewhere", NAMED)


@pytest.mark.parametrize("part", ["run", "truth"])
def test_a_meta_json_elsewhere_is_not_taken(folders, tmp_path, part, tried):
    folder = folders["probed"]
    place = folder if part == "run" else truth_of(folder)
    (place / "meta.json").rename(tmp_path / "outside.json")
    (place / "meta.json").symlink_to(tmp_path / "outside.json")
    assert f"{place}/meta.json is a link that leads out of its" in said(read_all, folder)
    tried("folders", "a link that leads out of the folder", NAMED)


def test_the_truth_may_lie_elsewhere(folders, tmp_path, tried):
    """Whoever has a large one links it; it is held against the run as any other."""
    folder = folders["probed"]
    truth_of(folder).rename(tmp_path / "outside")
    truth_of(folder).symlink_to(tmp_path / "outside")
    read_all(folder)
    tried("folders", "a truth folder that is a link", AS_IT_WAS)


@pytest.mark.parametrize("what", ["file", "folder"])
def test_links_that_lead_out_of_the_folder_are_not_followed(folders, tmp_path, what, tried):
    folder = folders["probed"]
    name = "scores.csv" if what == "file" else "halves"
    (folder / name).rename(tmp_path / "outside")
    (folder / name).symlink_to(tmp_path / "outside")
    assert "which is no file of its folder" in said(load_run, folder)
    tried("folders", "a link that leads out of the folder", NAMED)


def test_a_folder_may_be_a_link_itself(folders, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(folders["probed"])
    load_run(link)
    assert lies_within(link, "halves/1.safetensors")


@pytest.mark.parametrize("method", METHODS)
def test_files_that_meta_json_does_not_list_are_not_read(folders, method, tried):
    folder, left_out = folders[method], 0
    for place in (folder, truth_of(folder)):
        meta = meta_of(place)
        for name in meta["files"]:
            without = {key: value for key, value in meta["files"].items() if key != name}
            (place / "meta.json").write_text(json.dumps(meta | {"files": without}))
            (place / name).rename(place / "aside")
            os.mkfifo(place / name)  # whoever opens it waits for ever
            sentence = said(read_all, folder)
            assert sentence is None or f"does not list {name}" in sentence
            (place / name).unlink()
            (place / "aside").rename(place / name)
            left_out += 1
        (place / "meta.json").write_text(json.dumps(meta))
    tried("folders", "a file that meta.json does not list", "not read", left_out)


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
                if (kind, path.stem) == ("the last axis longer", "thumbnails"):
                    continue  # what follows a picture is none of it
                save_file(bad, path, metadata=saved(content))
                reseal(place)
                sentence = said(read_all, folder)
                assert sentence is not None, (name, first, kind)
                assert path.name in sentence, (name, first, kind, sentence)
                refused += 1
        path.write_bytes(content)
        (place / "meta.json").write_text(meta)
    read_all(folder)
    tried("folders", "tensors of other shapes, types or numbers, checksums made to fit", NAMED,
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
                sentence = said(read_all, folder)
                assert sentence is not None, path
                assert path.name in sentence
                path.write_bytes(content)
                reseal(place)
                refused += 1
    tried("folders", "the header of a file of tensors lies, checksums made to fit", NAMED, refused)


def harmful_tables(text):
    first, *rows = text.splitlines(keepends=True)
    names = first.strip().split(",")
    numbers = names.index("jaccard" if "jaccard" in names else "area")

    def with_cell(value):
        cells = rows[0].rstrip("\n").split(",")
        cells[numbers] = value
        return first + ",".join(cells) + "\n" + "".join(rows[1:])

    return {
        "empty": "",
        "no rows": first,
        "a row less": first + "".join(rows[:-1]),
        "a row twice": text + rows[0],
        "rows turned": first + "".join(reversed(rows)),
        "no end": text + rows[0] * 200_000,
        "a column less": "\n".join(line.partition(",")[2] for line in text.splitlines()),
        "a column called otherwise": text.replace(names[numbers], "other"),
        "text for a number": with_cell("many"),
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
    kinds = harmful_tables(path.read_text())
    for kind, bad in kinds.items():
        path.write_bytes(bad if isinstance(bad, bytes) else bad.encode())
        reseal(folder)
        sentence = said(read_all, folder)
        assert sentence is not None, kind
        assert path.name in sentence, kind
    tried("folders", "a table that is none, or lacks rows or columns, checksums made to fit", NAMED,
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
        assert said(read_all, folder).startswith(f"{home} is of other test images, concepts or")
        reseal(home, **{key: meta[key] for key in change})
    read_all(folder)
    tried("folders", "the truth of other test images beside a run", NAMED, 4)


def test_pipes_are_not_waited_for(folders, tmp_path, tried):
    def look():
        for folder in (folders["probed"], truth_of(folders["probed"])):
            (folder / "meta.json").unlink()
            os.mkfifo(folder / "meta.json")
        assert kind_of(folders["probed"]) is None
        assert "it is no file" in said(load_run, folders["probed"])
        assert "it is no file" in said(Truth.load, truth_of(folders["probed"]))

    child = Child(look, tmp_path / "log")
    assert child.wait(20) == 0, child.said
    tried("folders", "a pipe for a meta.json", "refused, and not waited for", 2)


def test_a_run_is_found_from_within_its_own_folder(runs, monkeypatch):
    monkeypatch.chdir(runs["probed"].parent)
    assert load_run(runs["probed"].name).truth.ids
