"""data.on_error=skip leaves out what cannot be read and says so; all else is as without it."""

import errno
import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from broden_folder import write_broden
from cavalcade import processes
from cavalcade.comparing.analysis import Analysis
from cavalcade.comparing.comparable import images_left_out, say_left_out
from cavalcade.comparing.comparison import compare
from cavalcade.comparing.comparison_folder import tables_of, write_comparison
from cavalcade.concepts import Probes
from cavalcade.data import Broden, Coco, Folder
from cavalcade.data.contents import read_splits
from cavalcade.data.folder import FolderSplit
from cavalcade.data.left_out import LeftOut, check_agreed, table_of
from cavalcade.errors import InputError
from cavalcade.folders import read_meta
from cavalcade.names import names_of_runs
from cavalcade.runs import load_run
from cavalcade.visiting.trainers import Trainers
from cavalcade.visiting.visit import identify
from coco_folder import write_coco
from fuzzing import is_refused
from hardening import LEFT_OUT, REFUSED, REFUSED_FIELD, STOPPED, UNCHANGED
from tiny import quiet_trainer, tiny_backbone, tiny_data, tiny_visit

SPLITS = ("train", "val", "test")
WHOLE = "data.on_error=skip with a damaged list, a missing folder or duplicate names"


def put(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, np.uint8)).save(path)


def write(root, count=8):
    """A red square on noise, in images called 00, 01, …"""
    for seed, split in enumerate(SPLITS):
        for i in range(count):
            rng = np.random.default_rng([seed, i])
            picture, mask = rng.integers(0, 60, (32, 32, 3)), np.zeros((32, 32))
            top, left = rng.integers(0, 16, 2)
            picture[top : top + 16, left : left + 16] = (220, 30, 30)
            mask[top : top + 16, left : left + 16] = 1
            put(root / f"images/{split}/{i:02d}.png", picture)
            put(root / f"masks/{split}/{i:02d}.png", mask)
    (root / "classes.json").write_text('{"names": ["ground", "square"]}')
    return root


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    return write(tmp_path_factory.mktemp("clean") / "data")


@pytest.fixture
def root(clean, tmp_path):
    return shutil.copytree(clean, tmp_path / "data")


def data_of(root, on_error="skip", **options):
    return Folder(root=str(root), grid=(8, 8), on_error=on_error, **options)


def spoil(root):
    """An image and two masks cannot be used."""
    (root / "images/train/03.png").write_bytes(b"no picture")
    (root / "masks/train/05.png").unlink()
    put(root / "masks/test/02.png", np.full((32, 32), 9))


def remove(root):
    for split, number in (("train", "03"), ("train", "05"), ("test", "02")):
        for part in ("images", "masks"):
            (root / part / split / f"{number}.png").unlink(missing_ok=True)


def prints(root, on_error="skip", **options):
    found = read_splits(data_of(root, on_error, **options), SPLITS)
    return {split: own.fingerprint() for split, own in found.items()}


def test_what_cannot_be_read_is_left_out_and_the_rest_is_as_without_it(root, tried, caplog):
    spoil(root)
    with pytest.raises(InputError, match=r"images/train/03.png cannot be read as an image.*skip$"):
        read_splits(data_of(root, "stop"), SPLITS)
    found = read_splits(data_of(root), SPLITS)
    assert {split: [each.id for each in own.left_out] for split, own in found.items()} == {
        "train": ["03", "05"],
        "val": [],
        "test": ["02"],
    }
    assert "data: 2 of 8 train images are left out, since they cannot be read" in caplog.text
    assert "03 (" in caplog.text
    assert "train/03.png cannot be read as an image" in caplog.text
    assert "05.png" in caplog.text
    assert "val images are left out" not in caplog.text
    skipped = prints(root)
    remove(root)
    alone = read_splits(data_of(root, "stop"), SPLITS)
    assert {split: own.fingerprint() for split, own in alone.items()} == skipped
    for split, own in found.items():
        other = alone[split]
        assert (own.ids, own.groups) == (other.ids, other.groups)
        for what in ("present", "labelled", "shapes"):
            assert torch.equal(getattr(own, what), getattr(other, what))
        assert own.pictures_fingerprint() == other.pictures_fingerprint()
        for index in range(len(own)):
            assert all(
                torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
                for a, b in zip(own[index], other[index], strict=True)
            )
    tried("images", "data.on_error=skip: all other images", UNCHANGED)


def test_where_nothing_is_left_out_nothing_changes(clean, tried, caplog):
    digests = []
    for on_error in ("stop", "skip"):
        backbone = tiny_backbone()
        data = tiny_data(backbone, data_of(clean, on_error))
        assert data.left_out.empty
        digests.append(identify(backbone, data, Probes(), Trainers(quiet_trainer)))
    assert digests[0] == digests[1]
    assert "left out" not in caplog.text
    tried("images", "data.on_error=skip with nothing to leave out", "the same run as without it")


@pytest.fixture(scope="module")
def runs(clean, tmp_path_factory):
    """Two networks on data of which some was left out."""
    root = shutil.copytree(clean, tmp_path_factory.mktemp("spoilt") / "data")
    spoil(root)
    found = []
    for seed in (0, 1):
        backbone = tiny_backbone(seed=seed, label=f"net{seed}")
        data = tiny_data(backbone, data_of(root))
        found.append(tiny_visit(root.parent / "runs", backbone, data=data))
    return found


def test_the_run_says_what_was_left_out(runs, tried):
    for run in runs:
        meta = read_meta(run, "run")  # checks the checksums
        assert meta["data"]["left_out"] == {"train": 2, "test": 1}
        assert "left_out.csv" in meta["files"]
        table = pd.read_csv(run / "left_out.csv", dtype=str)
        assert list(table) == ["split", "id", "reason"]
        assert table[["split", "id"]].values.tolist() == [
            ["train", "03"],
            ["train", "05"],
            ["test", "02"],
        ]
        text = (run / "left_out.csv").read_text()
        assert "images/train/03.png cannot be read as an image" in text
        assert str(run.parents[3]) not in text
        assert "/tmp" not in text
    what = "data.on_error=skip with images or masks that cannot be read"
    tried("images", what, LEFT_OUT, 3 * len(runs))
    tried("images", "left_out.csv", "names no folder of the machine", len(runs))


@pytest.mark.parametrize(
    "said",
    [5, None, [], "3 test", {"test": "many"}, {"test": 0}, {"test": -1}, {"test": True},
     {"test": {}}, {"a\nAll is well: run `x`": 1}, {"\x1b[31m": 1}],
)  # fmt: skip
def test_what_a_run_of_others_says_of_it_is_checked(runs, tmp_path, said, tried):
    folder = shutil.copytree(runs[0], tmp_path / "run")
    meta = json.loads((folder / "meta.json").read_text())
    meta["data"]["left_out"] = said
    (folder / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(InputError, match=r"meta\.json: data\.left_out(\.test)? is ") as error:
        load_run(folder)
    assert str(error.value).isprintable()
    tried("folders", "images left out that are no numbers", REFUSED_FIELD)


def test_a_run_of_whole_data_says_nothing_of_it(clean, tmp_path, caplog):
    backbone = tiny_backbone()
    run = tiny_visit(tmp_path, backbone, data=tiny_data(backbone, data_of(clean)))
    assert not (run / "left_out.csv").exists()
    meta = read_meta(run, "run")
    assert "left_out" not in meta["data"]
    assert "left_out" not in meta["identity"]
    say_left_out([load_run(run)])
    assert "left out" not in caplog.text
    assert images_left_out([load_run(run)]) == ""


@pytest.mark.slow
def test_a_run_is_not_that_of_the_same_images_without_the_bad_ones(runs, clean, tmp_path):
    """Which would not say that any were left out."""
    root = shutil.copytree(clean, tmp_path / "data")
    remove(root)
    backbone = tiny_backbone(seed=0, label="net0")
    other = tiny_visit(tmp_path / "runs", backbone, data=tiny_data(backbone, data_of(root)))
    ours, theirs = (json.loads((run / "meta.json").read_text()) for run in (runs[0], other))
    assert ours["identity"]["data"] == theirs["identity"]["data"]
    assert ours["digest"] != theirs["digest"]
    assert other.parent.parent.name == runs[0].parent.parent.name  # the data folder is the same


def test_runs_with_the_same_left_out_are_compared_and_it_is_said(runs, caplog, tried):
    loaded = [load_run(run) for run in runs]
    compare(loaded)
    said = [r.getMessage() for r in caplog.records if "were left out of the data" in r.getMessage()]
    assert len(said) == 1
    assert "left_out.csv in the run folder names them: 2 train, 1 test of net0" in said[0]
    tried("images", "runs whose data had images left out", "compared, with a warning")


@pytest.mark.slow  # a browser
def test_the_report_and_the_summary_say_it(runs, tmp_path, opened):
    loaded = [load_run(run) for run in runs]
    analysis = Analysis(compare(loaded, repairings=2))
    names = names_of_runs(loaded, analysis.comparison.networks)
    write_comparison(analysis, loaded, tmp_path / "c", tables_of(analysis, names), pictures=0)
    said = opened(tmp_path / "c").locator("#images-left-out")
    assert said.is_visible()
    assert "could not be read were left out of the data" in said.text_content()
    assert "2 train, 1 test of net0, net1." in said.text_content()
    summary = json.loads((tmp_path / "c" / "summary.json").read_text())
    assert "2 train, 1 test of net0, net1" in summary["images_left_out"]


def test_a_split_without_any_image_that_can_be_read_stops(root, tried):
    for path in (root / "images/val").iterdir():
        path.write_bytes(b"no picture")
    message = "data: none of the 8 val images can be read, the first for this reason: .*val/00.png"
    with pytest.raises(InputError, match=message):
        read_splits(data_of(root), SPLITS)
    tried("images", "data.on_error=skip with no image that can be read", REFUSED)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda root: (root / "classes.json").unlink(),
        lambda root: (root / "classes.json").write_text("{"),
        lambda root: shutil.rmtree(root / "images/val"),
        lambda root: put(root / "images/val/00.bmp", np.zeros((4, 4))),
        lambda root: put(root / "images/val/a\nb.png", np.zeros((4, 4))),
    ],
)
def test_what_is_wrong_with_the_whole_stops_in_both_modes(root, tried, spoil):
    spoil(root)
    for on_error in ("stop", "skip"):
        assert is_refused(lambda mode=on_error: read_splits(data_of(root, mode), SPLITS), root)
    tried("images", WHOLE, REFUSED)


def test_an_image_that_fails_after_it_was_read_stops(root, tried):
    found = read_splits(data_of(root), SPLITS)
    (root / "images/train/03.png").unlink()
    with pytest.raises(InputError, match=r"train/03.png, which is not there"):
        found["train"].image(3)
    tried("images", "an image that is gone after it was read", REFUSED)


LACKS = {
    "Python": MemoryError(),
    "the system": OSError(errno.EMFILE, "Too many open files"),
    "Pillow's decoders": OSError("decoder error -9"),  # as of a TIFF of 243 MB with 400 MB left
}


@pytest.mark.parametrize("who", LACKS)
def test_what_the_machine_lacks_is_no_fault_of_an_image(clean, monkeypatch, tried, who):
    own = Image.open

    def open(path, **options):
        if path.name == "03.png":
            raise LACKS[who]
        return own(path, **options)

    monkeypatch.setattr(Image, "open", open)
    for on_error in ("stop", "skip"):
        with pytest.raises(InputError, match=r"03.png cannot be read, for lack of memory or open"):
            read_splits(data_of(clean, on_error), SPLITS)
    tried("images", "data.on_error=skip while the machine lacks memory", REFUSED)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "cannot be read, for lack of memory or open files (MemoryError)"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: not enough"), "for lack of memory or"),
        (OSError(errno.EMFILE, "Too many open files"), "for lack of memory or open files"),
    ],
)
def test_what_the_machine_lacks_for_labels_is_no_fault_of_an_image(
    clean, monkeypatch, tried, error, words
):
    spoil_labels(monkeypatch, error)
    for on_error in ("stop", "skip"):
        with pytest.raises(InputError, match=re.escape(words)):
            read_splits(data_of(clean, on_error), SPLITS)
    tried("images", "data.on_error=skip while the machine lacks memory", REFUSED)


def test_what_may_not_be_looked_at_is_a_sentence(clean, monkeypatch):
    spoil_labels(monkeypatch, PermissionError(errno.EACCES, "Permission denied"))
    with pytest.raises(InputError, match=r"^image 03 cannot be read \(.*denied\); mend that, or"):
        read_splits(data_of(clean, "stop"), SPLITS)
    found = read_splits(data_of(clean, "skip"), ["train"])["train"]
    assert [each.id for each in found.left_out] == ["03"]


def spoil_labels(monkeypatch, error):
    """As of one image, when they are asked for."""
    own = FolderSplit.labels

    def labels(split, index):
        if split.ids[index] == "03":
            raise error
        return own(split, index)

    monkeypatch.setattr(FolderSplit, "labels", labels)


def test_images_of_coco_that_are_missing_are_left_out(tmp_path):
    root = write_coco(tmp_path, {"train": 4, "val": 3}, (24, 32))
    gone = sorted((root / "val2017").iterdir())[1]
    gone.unlink()
    with pytest.raises(InputError, match=f"{gone.name} is missing"):
        read_splits(Coco(root=str(root)), ["test"])
    found = read_splits(Coco(root=str(root), on_error="skip"), ["test"])["test"]
    assert [each.id for each in found.left_out] == [gone.stem]
    assert len(found) == 2


def test_what_is_left_out_is_not_replaced(root):
    spoil(root)
    found = read_splits(data_of(root, limit={"train": 4}, test_images=3), SPLITS)
    assert found["train"].ids == ("00", "02", "04", "06")
    assert found["test"].ids == ("00", "05")


def test_the_choice_of_concepts_rests_on_what_is_left(root):
    spoil(root)
    with pytest.raises(InputError, match="no concept of data"):
        read_splits(data_of(root, min_images=7), ["train", "test"])
    kept = read_splits(data_of(root, min_images=6), ["train", "test"])
    assert kept["train"].concepts == ("ground", "square")
    assert [each.id for each in kept["test"].left_out] == ["02"]


def test_on_error_is_one_of_two(root):
    with pytest.raises(InputError, match=r"data.on_error is 'ignore'; give one of stop, skip"):
        data_of(root, "ignore")


def test_reasons_name_no_folder_of_the_machine(root):
    reasons = {
        f"{root}/images/a.png cannot be read ([Errno 2] '{root}/images/a.png'); mend it": (
            "images/a.png cannot be read ([Errno 2] 'images/a.png'); mend it"
        ),
        "the table /home/me/my/groups.csv is odd": "the table …/groups.csv is odd",
        "the table ~/my/groups.csv is odd\n\n": "the table …/groups.csv is odd",
        "a 3/4 crop of sky/road": "a 3/4 crop of sky/road",
    }
    left_out = {"train": [LeftOut("a", reason) for reason in reasons]}
    assert table_of(data_of(root), left_out)["reason"].tolist() == list(reasons.values())


def test_processes_that_read_different_images_stop(root, monkeypatch, tried):
    data = data_of(root)
    own = {"train": [LeftOut("03", "gone")], "val": []}
    for others, message in (
        ({"train": ["03"], "val": []}, None),
        ({"train": ["03", "05"], "val": []}, "process 1 can read other train images .* in 05"),
        ({"train": [], "val": []}, "process 1 can read other train images .* differ in 03"),
    ):
        monkeypatch.setattr(processes, "gathered", lambda mine, o=others: [mine, o])
        if message is None:
            check_agreed(data, own)
        else:
            with pytest.raises(InputError, match=message):
                check_agreed(data, own)
    tried("images", "processes that leave out different images", STOPPED, times=2)


def test_a_map_outside_of_broden_is_left_out_with_its_reason(tmp_path):
    root = write_broden(tmp_path / "broden")
    index = root / "index.csv"
    lines = index.read_text().splitlines()
    lines[1] = lines[1].replace("shapes/train_0000_color_1.png", "../../etc/passwd")
    index.write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError, match=r"line 2, color: '../../etc/passwd' is no label number"):
        read_splits(Broden(root=str(root)), ["train"])
    found = read_splits(Broden(root=str(root), on_error="skip"), ["train"])["train"]
    assert [each.id for each in found.left_out] == ["shapes/train_0000"]
