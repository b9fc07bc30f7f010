"""train.py and compare.py as a user runs them."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from examples.my_data import Boxes
from PIL import Image, ImageDraw

from cavalcade import cli
from cavalcade.cli import user_error
from cavalcade.errors import InputError, closest
from cavalcade.similarity import CONCEPT_MEASURES, FEATURE_MEASURES
from warm import run_warm

ROOT = Path(__file__).parents[1]
SMALL = (
    "backbone.image_size=[64,64]",
    "data.num_images={train: 16, val: 4, test: 24}",
    "data.size=48",
    "data.grid=[24,24]",
    "num_workers=0",
    "trainer.accelerator=cpu",
)


VARIABLES = {"WANDB_MODE": "offline", "COLUMNS": "140"}


def python(folder, program, *arguments, **variables):
    return subprocess.run(
        [sys.executable, ROOT / program, *arguments],
        cwd=folder,
        env=os.environ | VARIABLES | variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def soon(folder, program, *arguments):
    """The same, where it does not matter how a program starts."""
    return run_warm(ROOT / program, *arguments, cwd=folder, env=os.environ | VARIABLES)


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """One sweep: two networks that work, among three jobs that cannot."""
    folder = tmp_path_factory.mktemp("user")
    # children import what is installed, and not what has its name here
    (folder / "queue.py").write_text("raise ImportError('not Python's')")
    names = "efficientnet_lite0,no_such,timm,efficientnet_lite2"
    return folder, python(folder, "train.py", "-m", f"backbone={names}", *SMALL, "logger=csv")


def test_a_sweep_finishes_its_good_jobs(swept):
    folder, result = swept
    runs = sorted(p.name.rsplit("-", 1)[0] for p in folder.glob("runs/*/probes/*"))
    assert runs == ["efficientnet_lite0", "efficientnet_lite2"], result.stderr[-3000:]
    assert not list(folder.glob("runs/*/probes/.*"))


def test_a_sweep_says_what_failed_in_a_sentence_each(swept):
    _, result = swept
    said = result.stdout + result.stderr
    assert result.returncode == 1
    assert "Traceback" not in said
    assert "there is no backbone=no_such; there are: " in " ".join(said.split())
    assert "backbone.name is not set; add backbone.name=" in said


def test_layers_and_cost_are_printed_first(swept):
    _, result = swept
    said = result.stdout + result.stderr
    assert "5 layers with their relative depth: blocks.0 (0.06), blocks.1" in said
    assert "MB on disk" in said
    assert "sampling activations for probes" in said


def test_compare_takes_the_runs_of_the_data_set_trained_last(swept):
    folder, _ = swept
    result = python(folder, "compare.py", "name=both", "logger=none")
    assert result.returncode == 0, result.stderr[-3000:]
    assert "efficientnet_lite0" in result.stdout
    assert "pictures and tables: comparisons/both" in result.stdout
    assert len(result.stdout.splitlines()) < 60, "libraries have their say, too"
    assert "Over 1 pair of trained networks of different architecture" in " ".join(
        result.stdout.split()
    )
    pairs = pd.read_csv(folder / "comparisons/both/pairs.csv").set_index("statistic")
    assert set(pairs["measure"]) == {*CONCEPT_MEASURES, *FEATURE_MEASURES} - {"pwcca"}
    assert pairs.loc["mean_best_match", "value"].between(-1, 1).all()


@pytest.mark.slow  # ten seconds
def test_compare_by_a_measure_of_features(swept):
    folder, _ = swept
    options = ["similarity=cka", "agreement=[]", "repairings=2", "name=geometry", "logger=none"]
    result = soon(folder, "compare.py", *options)
    assert result.returncode == 0, result.stderr[-3000:]
    assert "linear CKA above chance" in result.stdout
    table = pd.read_csv(folder / "comparisons/geometry/networks.csv")
    assert table["efficientnet_lite2"].between(-1, 1).any()


def test_a_finished_run_is_skipped_with_a_line(swept):
    folder, _ = swept
    result = soon(folder, "train.py", *SMALL, "logger=none")
    assert result.returncode == 0
    assert "efficientnet_lite0: finished before, skipped" in result.stdout + result.stderr


@pytest.mark.slow  # starts programs anew
def test_a_program_that_is_started_soon_says_the_same(tmp_path):
    real, warm = (call(tmp_path, "train.py", "list=networks") for call in (python, soon))
    assert real.returncode == warm.returncode == 1
    assert (real.stdout, real.stderr) == (warm.stdout, warm.stderr)


@pytest.mark.parametrize(
    ("program", "arguments", "message"),
    [
        (
            "train.py",
            ["+logger.api_key=abc(SECRET"],
            "an option is not in Hydra's grammar, and one",
        ),
        ("train.py", ["data.gird=[8,8]"], "unknown config key data.gird; closest: data.grid, "),
        ("train.py", ["data=folder", "data.rot=x"], "key data.rot; closest: data.root, "),
        ("train.py", ["backbone=effnet_lite0"], "no backbone=effnet_lite0; closest: efficientnet"),
        ("train.py", ["list=networks"], "list is 'networks'; give one of backbones, data, "),
        ("train.py", ["-m", "list=data,backbones"], "list= says what can be chosen, and needs no"),
        ("train.py", ["--config-path", "full"], "--config-path=full is no folder; give one with"),
        ("compare.py", ["similarty=cka"], "unknown config key similarty; closest: similarity"),
        ("train.py", ["data=folder", "data.root=nowhere"], "data.root is 'nowhere'"),
        ("train.py", ["backbone.layers=[layer5]"], "no layer 'layer5' in efficientnet_lite0"),
        ("train.py", ["concepts.loss=hinge"], "concepts.loss is 'hinge'"),
        ("compare.py", ["runs=nowhere"], "no run folder at 'nowhere'"),
        ("compare.py", ["similarity=ckaa"], "similarity is 'ckaa'; give one of jaccard"),
        ("compare.py", ["agreement=ckaa"], "agreement is 'ckaa'; give one of jaccard"),
        ("train.py", ["cache_gigabytes=5"], "cache_gigabytes needs a folder that it bounds; add"),
        ("train.py", ["backbone=3"], "there is no backbone=3; give it by its name"),
        ("compare.py", ["comparisons=null"], "comparisons is None; give a folder"),
        ("compare.py", ["repairings=1"], "repairings is 1; give a whole number from 2 up"),
        ("compare.py", ["series=true"], "series=true needs its checkpoints one by one"),
        ("compare.py", ["series=true", "runs=a*"], "series=true needs its checkpoints one by one"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, program, arguments, message):
    result = soon(tmp_path, program, *arguments, "logger=none")
    said = result.stdout + result.stderr
    assert result.returncode == 1
    assert message in said
    assert "Traceback" not in said
    assert "SECRET" not in said
    lines = [line for line in said.splitlines() if line.strip()]
    assert len(lines) == 1, lines
    assert not (tmp_path / "runs").exists()


def test_of_a_record_with_a_password_only_what_hydra_wrote_goes(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").touch()
    record = ("hydra.run.dir=.", "hydra.output_subdir=mine", "hydra.job.chdir=false")
    result = soon(tmp_path, "compare.py", "runs=nowhere", "logger.notes=https://me:pw@x", *record)
    assert "Hydra's record of them is removed" in result.stdout + result.stderr
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


@pytest.mark.slow  # starts a program anew
def test_an_option_that_lies_beside_is_pointed_at(tmp_path):
    (tmp_path / "conf/backbone").mkdir(parents=True)
    (tmp_path / "conf/backbone/mine.yaml").write_text("x: 1")
    result = python(tmp_path, "train.py", "backbone=mine")
    assert (
        f"there is no backbone=mine; {tmp_path}/conf/backbone has one: add --con" in result.stderr
    )


@pytest.mark.parametrize("script", [ROOT / "examples/a.py", "venv/bin/cavalcade-train"])
def test_modules_of_ones_own_are_found(tmp_path, monkeypatch, script):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(script)])
    monkeypatch.setattr(sys, "path", ["installed"])
    monkeypatch.setenv(cli.SCRIPTS, str(ROOT / "examples"))
    cli._find_own_modules()
    assert sys.path == [str(ROOT / "examples"), "installed", str(tmp_path)]


def test_wrapped_errors_are_unwrapped():
    wrapper = RuntimeError("Error in call to target")
    wrapper.__cause__ = InputError("the sentence")
    assert user_error(wrapper) == "the sentence"
    assert user_error(RuntimeError("a bug")) is None


def test_closest_names():
    assert closest("layer5", ["layer1", "layer4", "stem"]).startswith("closest: layer4")
    assert closest("zzz", ["a", "b"]) == "there are: a, b"
    assert closest("zzz", []) == "there are none"


def test_the_example_of_a_network_of_ones_own(tmp_path):
    example = ("--config-dir", str(ROOT / "examples/conf"), "backbone=my_network")
    result = soon(tmp_path, "train.py", *example, *SMALL[1:], "logger=none")
    assert result.returncode == 0, result.stderr[-3000:]
    (run,) = tmp_path.glob("runs/faces-*/probes/my_network-random-*")
    layers = pd.read_csv(run / "scores.csv")["layer"].unique()
    assert list(layers) == ["trunk.0", "trunk.1", "trunk.2", "trunk"]


def write_boxes(root, images=(20, 4, 24)):
    """Grey noise with a red and a blue disc, and the boxes around these."""
    rng, lines = np.random.default_rng(0), ["image,concept,left,top,right,bottom"]
    for split, count in zip(("train", "val", "test"), images, strict=True):
        (root / split).mkdir(parents=True)
        for number in range(count):
            picture = Image.fromarray(rng.integers(90, 160, (64, 96, 3), dtype=np.uint8))
            for concept, start in (("red", 0), ("blue", 48)):
                left, top = start + rng.integers(0, 16), rng.integers(0, 32)
                box = (left, top, left + 28, top + 28)
                ImageDraw.Draw(picture).ellipse(box, fill=concept)
                lines.append(f"{split}/{number}.png,{concept},{','.join(map(str, box))}")
            picture.save(root / f"{split}/{number}.png")
    (root / "boxes.csv").write_text("\n".join(lines))


def test_the_example_of_a_data_set_of_ones_own(tmp_path):
    write_boxes(tmp_path / "discs")
    example = ("--config-dir", str(ROOT / "examples/conf"), "data=my_data", "data.root=discs")
    settings = [each for each in SMALL if not each.startswith(("data.num", "data.size"))]
    result = soon(tmp_path, "train.py", *example, *settings, "logger=none")
    assert result.returncode == 0, result.stderr[-3000:]
    (run,) = tmp_path.glob("runs/discs-*/probes/efficientnet_lite0-*")
    scores = pd.read_csv(run / "scores.csv").query("split == 'test'")
    best = scores.groupby("concept")["jaccard"].max()
    assert set(best.index) == {"red", "blue"}
    assert best.min() > 0.6


def test_what_the_example_of_a_data_set_knows_of_its_boxes(tmp_path):
    write_boxes(tmp_path, (1, 1, 1))
    labels = Boxes(root=str(tmp_path)).open("train").labels(0)
    disc, box = labels.masks.sum((1, 2)), (~labels.labelled | labels.masks).sum((1, 2))
    assert box.tolist() == [28 * 28] * 2
    assert (disc / box - np.pi / 4).abs().max() < 0.01
    red = Boxes(root=str(tmp_path), concepts=["red"]).open("train")
    assert red.concepts == ("red",)
    assert (red.labels(0).masks == labels.masks[1]).all()  # blue comes first


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("train/9.png,red,0,0,4,4", "boxes.csv names train/9.png, no image here; closest: tr"),
        ("train/0.png,red,4,0,4,4", "a box of train/0.png is empty"),
        ("train/0.png,red,4,0", "it needs a header and the columns image, concept, left"),
    ],
)
def test_what_is_wrong_with_boxes_is_one_sentence(tmp_path, line, message):
    write_boxes(tmp_path, (1, 1, 1))
    with (tmp_path / "boxes.csv").open("a") as file:
        file.write(f"\n{line}")
    with pytest.raises(InputError, match=message):
        Boxes(root=str(tmp_path)).open("train")


@pytest.mark.slow
def test_the_example_of_a_library(tmp_path):
    result = python(tmp_path, "examples/library.py")
    assert result.returncode == 0, result.stderr[-3000:]
    assert "Number(0." in result.stdout
    assert (tmp_path / "comparisons/library/report/index.html").exists()


def test_layers_are_listed_and_nothing_else_is_done(tmp_path):
    settings = ("backbone.weights=random", "backbone.image_size=64", "list_layers=true")
    result = soon(tmp_path, "train.py", "backbone=vit_small", *settings)
    assert result.returncode == 0, result.stderr[-3000:]
    assert "vit_small-random: layers for images of 64 x 64 pixels" in result.stdout
    assert "blocks.11" in result.stdout
    assert not (tmp_path / "runs").exists()
