import json
import shutil

import pytest
import torch

from cavalcade import InputError, folders, load_run
from cavalcade.concepts.encoding import pack, unpack
from cavalcade.folders import check_name, digest_of, recover, write_meta, written_whole
from cavalcade.truth import Truth
from hardening import REFUSED
from tiny import tiny_backbone, tiny_data, tiny_visit


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return tiny_visit(tmp_path_factory.mktemp("runs"))


@pytest.fixture
def copy(finished, tmp_path):
    data = shutil.copytree(finished.parents[1], tmp_path / "runs" / finished.parents[1].name)
    return data / finished.relative_to(finished.parents[1])


def test_scores_come_as_frames(finished):
    run = load_run(finished)
    assert list(run.scores.columns) == [
        *("layer", "depth", "concept", "split", "jaccard", "jaccard_per_image"),
        *("area_ratio", "area_with", "area_without", "threshold", "true_pixels"),
    ]
    assert set(run.scores["split"]) == {"val", "test"}
    matrix = run.score_matrix("jaccard_per_image", "val")
    assert list(matrix.index) == ["2", "4", "6"]
    assert list(matrix.columns) == list(run.concepts)


def test_truth_is_that_of_the_test_images():
    data = tiny_data(tiny_backbone())
    test = data.splits["test"]
    truth = Truth.of(data)
    sample = test[3]
    centres = ((torch.arange(24) + 0.5) * 2).long()
    reference = sample.masks[:, centres][:, :, centres]
    assert torch.equal(unpack(truth.masks, (24, 24))[3].view(7, 24, 24), reference)
    assert unpack(truth.labelled, (24, 24)).all()
    assert (truth.ids, truth.groups) == (test.ids, test.groups)
    assert list(truth.blocks) == list(range(8))


def test_bits_round_trip_with_odd_sizes():
    masks = torch.rand(2, 3, 5, 7) < 0.5
    assert torch.equal(unpack(pack(masks), (5, 7)), masks.flatten(2))


def test_damaged_file_is_named(copy, tried):
    (copy / "masks.safetensors").write_bytes(b"short")
    with pytest.raises(InputError, match=r"masks.safetensors is missing or damaged"):
        load_run(copy)
    tried(
        "folders", "a file of a run folder cut short, emptied, changed, longer or swapped", REFUSED
    )


def test_missing_file_is_named(copy, tried):
    (copy / "scores.csv").unlink()
    with pytest.raises(InputError, match=r"scores.csv is missing or damaged"):
        load_run(copy)
    tried(
        "folders",
        "a file of a run folder missing, or a folder, a pipe or a link to itself",
        REFUSED,
    )


@pytest.mark.parametrize("kind", ["run", "truth"])
def test_a_folder_that_is_made_again_while_it_is_checked_is_not_damaged(
    copy, monkeypatch, kind, tried
):
    folder = copy if kind == "run" else copy.parents[1] / "truth"
    own, made = folders._checksum, []

    def checksum(path):
        if not made:
            made.append(shutil.move(folder, folder.with_name("old")))
            shutil.copytree(folder.with_name("old"), folder)
            path.unlink()  # it holds other files than the one before
        return own(path)

    monkeypatch.setattr(folders, "_checksum", checksum)
    with pytest.raises(InputError, match=r"was made again or deleted while it was read; run the"):
        load_run(copy) if kind == "run" else Truth.load(folder)
    tried("kills", "a folder that is made again while it is read", "said so")


def test_newer_format_is_refused(copy):
    meta = json.loads((copy / "meta.json").read_text())
    (copy / "meta.json").write_text(json.dumps(meta | {"format": 99}))
    with pytest.raises(InputError, match="has format 99, this version reads 1; update cavalcade"):
        load_run(copy)


def test_meta_that_is_no_json(copy):
    (copy / "meta.json").write_text("{")
    with pytest.raises(InputError, match=r"meta.json cannot be read"):
        load_run(copy)


def test_folder_that_is_no_run(tmp_path):
    with pytest.raises(InputError, match=r"is no run folder: it holds no meta.json"):
        load_run(tmp_path)
    with pytest.raises(InputError, match=r"File name too long"):
        load_run(tmp_path / ("a" * 300))


def test_truth_that_is_gone_is_named(copy):
    shutil.rmtree(copy.parents[1] / "truth")
    with pytest.raises(InputError, match="truth is no truth folder"):
        _ = load_run(copy).truth


def write_and_stop(place, name, **options):
    with written_whole(place, kind="run", **options) as folder:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("x")
        raise RuntimeError("stop")


def test_written_whole_or_absent(tmp_path):
    place = tmp_path / "run"
    with pytest.raises(RuntimeError, match="stop"):
        write_and_stop(place, "half")
    assert list(tmp_path.iterdir()) == []
    with written_whole(place, kind="run") as folder:
        (folder / "whole").write_text("x")
        assert not place.exists()
    assert [p.name for p in place.iterdir()] == ["whole"]


def test_failed_rewrite_keeps_the_old_one(tmp_path):
    place = tmp_path / "run"
    with written_whole(place, kind="run") as folder:
        (folder / "old").write_text("x")
        write_meta(folder, "run", {})
    with pytest.raises(RuntimeError, match="stop"), written_whole(place, kind="run"):
        raise RuntimeError("stop")
    assert (place / "old").exists()


def test_interrupted_write_keeps_what_it_resumes_from(tmp_path):
    place = tmp_path / "run"
    with pytest.raises(RuntimeError, match="stop"):
        write_and_stop(place, "checkpoints/last", resume="checkpoints")
    with written_whole(place, kind="run", resume="checkpoints") as folder:
        assert (folder / "checkpoints/last").exists()


def whole_folder(folder, content):
    folder.mkdir()
    (folder / "file").write_text(content)
    write_meta(folder, "run", {})


@pytest.mark.parametrize("again", [False, True])
def test_a_whole_folder_is_put_into_its_place_and_a_damaged_one_is_not(tmp_path, again):
    """As after a kill, or a power cut, between the two renames."""
    place, partial = tmp_path / "run", tmp_path / f".run.{'again' if again else 'partial'}"
    whole_folder(tmp_path / ".run.old", "old")
    whole_folder(partial, "new")
    (partial / "file").write_text("torn")
    assert not recover(place, "run", again=again)
    assert (place / "file").read_text() == "old"
    assert not (tmp_path / ".run.old").exists()
    shutil.rmtree(partial)
    whole_folder(partial, "new")
    assert recover(place, "run", again=again)
    assert (place / "file").read_text() == "new"
    assert list(tmp_path.iterdir()) == [place]


def test_a_try_of_the_other_kind_leaves_nothing(tmp_path, caplog):
    place = tmp_path / "run"
    whole_folder(tmp_path / ".run.again", "forced")
    assert not recover(place, "run")
    assert not list(tmp_path.iterdir())
    (said,) = caplog.messages
    assert said.startswith(f"{place}: what an interrupted force=true had begun is removed")
    whole_folder(tmp_path / ".run.partial", "not forced")
    assert not recover(place, "run", again=True)
    assert not recover(place, "run")
    assert not list(tmp_path.iterdir())
    assert len(caplog.messages) == 1


def test_digest_is_blind_to_the_order_of_keys():
    assert digest_of({"a": 1, "b": [2]}) == digest_of({"b": [2], "a": 1})
    assert digest_of({"a": 1}) != digest_of({"a": 2})


def test_nothing_else_is_ever_replaced(tmp_path, tried):
    place = tmp_path / "precious"
    place.mkdir()
    (place / "thesis.txt").write_text("x")
    with (
        pytest.raises(InputError, match="precious exists and is no run of cavalcade"),
        written_whole(place, kind="run"),
    ):
        pass
    assert (place / "thesis.txt").exists()
    tried(
        "folders",
        "a folder of something else at the place of a run",
        f"{REFUSED}; nothing is replaced",
    )


def test_folder_of_another_kind_is_named(finished):
    with pytest.raises(InputError, match="is a truth folder, not a run folder"):
        load_run(finished.parents[1] / "truth")


def test_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    with (
        pytest.raises(InputError, match=r"cannot write to .*file"),
        written_whole(tmp_path / "file" / "run", kind="run"),
    ):
        pass


@pytest.mark.parametrize("name", ["a/b", "..", "", ".hidden", "a\\b", "x" * 111, "a\tb"])
def test_names_are_plain(name):
    with pytest.raises(InputError, match="name is"):
        check_name("name", name)


def test_unknown_score_and_split_are_named(finished):
    run = load_run(finished)
    with pytest.raises(InputError, match="score is 'iou'; give one of depth, jaccard"):
        run.score_matrix("iou")
    with pytest.raises(InputError, match="split is 'train'; give one of val, test"):
        run.score_matrix("jaccard", "train")
