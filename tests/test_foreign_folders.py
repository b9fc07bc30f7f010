"""Run folders of others are data: refused in one sentence, or read as what they are."""

import json
import os
from functools import partial
from random import Random

import pytest

from cavalcade.comparing.comparable import find_runs, latest_runs
from cavalcade.folders import kind_of
from cavalcade.meta_fields import lies_within
from cavalcade.runs import load_run
from cavalcade.truth import Truth
from foreign import (
    GONE,
    METHODS,
    changed,
    folders,
    leaves,
    meta_of,
    nested,
    read_all,
    read_refused,
    runs,
    truth_of,
)
from fuzzing import HARMS, brief, harmed, refusal
from hardening import AS_IT_WAS, READ_OR_REFUSED, REFUSED

assert runs, folders
pytestmark = pytest.mark.usefixtures("no_waiting")  # files are pipes here and there


def files_in(folder):
    """All files of a run and of its truth."""
    parts = (folder, truth_of(folder))
    return [p for part in parts for p in sorted(part.rglob("*")) if p.is_file()]


@pytest.mark.parametrize("method", METHODS)
def test_files_that_are_not_as_they_were_written_are_named(folders, method, tried):
    folder, drawn, refused = folders[method], Random(0), 0
    files = [path for path in files_in(folder) if path.name != "meta.json"]
    for path, other in zip(files, [*files[1:], files[0]], strict=True):
        content = path.read_bytes()
        for bad in (*(harmed(content, harm, drawn) for harm in HARMS), other.read_bytes()):
            path.write_bytes(bad)
            assert path.name in (read_refused(folder, path) or "")
            refused += 1
        path.write_bytes(content)
    read_all(folder)
    assert refused == len(files) * (len(HARMS) + 1)
    tried("folders", "a file of a run folder cut short, emptied, changed, longer or swapped",
          REFUSED, refused)  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
def test_files_that_are_gone_or_none_are_named(folders, method, tried):
    folder = folders[method]
    files = files_in(folder)
    for path in files:
        aside = path.with_name("aside")
        path.rename(aside)
        for put in (lambda _: None, os.mkdir, os.mkfifo, partial(os.symlink, path.name)):
            put(path)
            assert path.name in (read_refused(folder, path) or "")
            if put is os.mkdir:
                path.rmdir()
            else:
                path.unlink(missing_ok=True)
        aside.rename(path)
    read_all(folder)
    tried(
        "folders",
        "a file of a run folder missing, or a folder, a pipe or a link to itself",
        REFUSED,
        4 * len(files),
    )


@pytest.mark.parametrize("method", METHODS)
def test_bytes_of_meta_json_are_changed(folders, method, tried):
    """What it says may still be something: then it is read as that."""
    path, drawn, refused = folders[method] / "meta.json", Random(0), 0
    content = path.read_bytes()
    for _ in range(100):
        path.write_bytes(harmed(content, "a byte changed", drawn))
        refused += read_refused(folders[method], path, folders[method].parents[1]) is not None
    assert 0 < refused < 100
    tried("folders", "one byte of meta.json changed", READ_OR_REFUSED, 100)


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


OTHERWISE = (  # sentences that are about more than a field
    *("it is nested deeper than", "was made by an older version", "is of other test images"),
    *("does not list", ".safetensors: ", ".safetensors is missing or damaged", ".csv is missing"),
    ".csv has other rows than",
)


def names_field(sentence, where):
    """Whether a field is named, or one that it lies in."""
    called, found = "", []
    for part in where:
        called += f"[{part}]" if isinstance(part, int) else f".{part}" if called else part
        found.append(called)
    return any(each in sentence for each in (*found, *OTHERWISE))


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
    meta, path, times = meta_of(place), place / "meta.json", 0
    for where in leaves(meta):
        for value in BAD if decides(where) else (None, nested(29)):
            if changed(meta, where, value) == meta:
                continue
            path.write_text(json.dumps(changed(meta, where, value)))
            sentence = read_refused(folder, path, folder)
            if sentence is None:
                assert may_stand(where, value), (where, value)
            else:
                assert names_field(sentence, where), (where, value, sentence)
            times += 1
    path.write_text(json.dumps(meta))
    read_all(folder)
    tried("folders", "a field of meta.json that is something else", READ_OR_REFUSED, times)


NONE, OTHER = (
    "a meta.json that is no JSON, nested too deep, or a terabyte",
    "other JSON as meta.json",
)


@pytest.mark.parametrize(
    ("content", "why", "what"),
    [
        (b"", "cannot be read", NONE),
        (b"\xff\xfe{}", "cannot be read", NONE),
        (b"{" * 100_000, "cannot be read", NONE),
        (b"[" * 100_000 + b"]" * 100_000, "cannot be read", NONE),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, "cannot be read", NONE),
        (b'{"kind": "run", "format": 1, "files": {}, "x": ' + b"[" * 31 + b"]" * 31 + b"}",
         "nested deeper than 30", NONE),
        (b'{"kind": "run", "format": ' + b"9" * 5000 + b"}", "cannot be read", NONE),
        (b'{"kind": "run", "label": "\\ud800", "format": 1, "files": {}}', "surrogates", NONE),
        (b"null", "it is no object with fields", OTHER),
        (b"[]", "it is no object with fields", OTHER),
        (b'"run"', "it is no object with fields", OTHER),
        (b'{"kind": "run", "format": 1, "files": []}', "files is no object", OTHER),
        (b'{"kind": "run", "format": 1, "files": {"a": 1}}', "files.a is 1, not a text", OTHER),
        (b'{"kind": ["run"], "format": 1, "files": {}}', "kind is ", OTHER),
        (b'{"kind": "run", "format": true, "files": {}}', "format is True", OTHER),
    ],
    ids=brief,
)  # fmt: skip
def test_a_meta_json_that_is_none(folders, content, why, what, tried):
    path = folders["probed"] / "meta.json"
    path.write_bytes(content)
    said = refusal(partial(load_run, path.parent), path)
    assert str(path) in said
    assert why in said
    assert kind_of(path.parent) in (None, "run")
    assert refusal(partial(find_runs, [path.parent]), path.parent)
    latest_runs(path.parents[3])  # the other method's
    tried("folders", what, REFUSED)


def test_a_meta_json_that_is_huge(folders, tried):
    path = folders["probed"] / "meta.json"
    with path.open("wb") as file:
        file.truncate(2**40)  # takes no room
    assert "has more than 100000000 bytes" in refusal(partial(load_run, path.parent), path)
    tried("folders", NONE, REFUSED)


OUT = "a path out of the folder, in meta.json or by a link"
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
    assert "which is no file of its folder" in refusal(partial(load_run, folder), folder)
    tried("folders", OUT, REFUSED)


@pytest.mark.parametrize("part", ["run", "truth"])
def test_a_meta_json_elsewhere_is_not_taken(folders, tmp_path, part, tried):
    folder = folders["probed"]
    place = folder if part == "run" else truth_of(folder)
    (place / "meta.json").rename(tmp_path / "outside.json")
    (place / "meta.json").symlink_to(tmp_path / "outside.json")
    assert f"{place}/meta.json is a link that leads out of its" in refusal(
        partial(read_all, folder), place
    )
    tried("folders", "a link that leads out of the folder", REFUSED)


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
    assert "which is no file of its folder" in refusal(partial(load_run, folder), folder)
    tried("folders", OUT, REFUSED)


def test_a_folder_may_be_a_link_itself(folders, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(folders["probed"])
    load_run(link)
    assert lies_within(link, "halves/1.safetensors")


@pytest.mark.parametrize("method", METHODS)
def test_files_that_meta_json_does_not_list_are_not_read(folders, method, tried):
    folder, unread = folders[method], 0
    for place in (folder, truth_of(folder)):
        meta = meta_of(place)
        for name in meta["files"]:
            without = {key: value for key, value in meta["files"].items() if key != name}
            (place / "meta.json").write_text(json.dumps(meta | {"files": without}))
            (place / name).rename(place / "aside")
            os.mkfifo(place / name)  # whoever opens it waits for ever
            sentence = read_refused(folder, place, folder)
            assert sentence is None or f"does not list {name}" in sentence
            (place / name).unlink()
            (place / "aside").rename(place / name)
            unread += 1
        (place / "meta.json").write_text(json.dumps(meta))
    tried("folders", "a file that meta.json does not list", "not read", unread)


def test_pipes_are_not_waited_for(folders, tried):
    for folder in (folders["probed"], truth_of(folders["probed"])):
        (folder / "meta.json").unlink()
        os.mkfifo(folder / "meta.json")
    assert kind_of(folders["probed"]) is None
    for load, folder in ((load_run, folders["probed"]), (Truth.load, truth_of(folders["probed"]))):
        assert "it is no file" in refusal(partial(load, folder), folder / "meta.json")
    tried("folders", "a file of a run folder missing, or a folder, a pipe or a link to itself",
          REFUSED, 2)  # fmt: skip


def test_a_run_is_found_from_within_its_own_folder(runs, monkeypatch):
    monkeypatch.chdir(runs["probed"].parent)
    assert load_run(runs["probed"].name).truth.ids
