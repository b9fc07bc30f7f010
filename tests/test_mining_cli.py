"""A folder of images and nothing else, mined and compared as a user does, tracked by W&B."""

import pandas as pd
import pytest
from PIL import Image

from cavalcade import load_comparison
from cavalcade.data import Faces
from test_cli import python, soon
from test_tracking import picture_exists, read_table
from wandb_log import OfflineRun

pytestmark = pytest.mark.slow

NETWORKS = ("efficientnet_lite0", "efficientnet_lite2")
MINING = (
    *("concepts=factorisation", "concepts.num_concepts=4", "concepts.rows=1000"),
    *("concepts.restarts=2", "data=images", "data.root=pictures", "data.grid=[24,24]"),
    *("backbone.image_size=[64,64]", "num_workers=0", "trainer.accelerator=cpu"),
)


@pytest.fixture(scope="module")
def mined(tmp_path_factory):
    folder = tmp_path_factory.mktemp("user")
    faces = Faces(num_images={"train": 60, "val": 1, "test": 1}, size=48, grid=(24, 24))
    for index, sample in enumerate(faces.open("train")):
        path = folder / f"pictures/person{index // 2:02d}/{index % 2}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(sample.image.permute(1, 2, 0).numpy()).save(path)
    swept = python(folder, "train.py", "-m", f"backbone={','.join(NETWORKS)}", *MINING)
    compared = python(folder, "compare.py", "agreement=[cka]")
    tracked = [OfflineRun(p) for p in sorted(folder.glob("wandb/offline-run-*"))]
    return folder, swept, compared, tracked


def test_both_programs_succeed_without_labels(mined):
    folder, swept, compared, _ = mined
    for result in (swept, compared):
        assert result.returncode == 0, result.stderr[-3000:]
        assert "Traceback" not in result.stdout + result.stderr
    runs = sorted(path.name.rsplit("-", 1)[0] for path in folder.glob("runs/pictures-*/nmf/*"))
    assert runs == list(NETWORKS)
    assert not list(folder.glob("runs/*/nmf/*/names.csv"))


def test_what_was_found_is_said(mined):
    _, swept, compared, _ = mined
    assert (
        "20 concepts at 5 layers in all, relative reconstruction error"
        in swept.stdout + swept.stderr
    )
    assert "adjusted Jaccard index" in compared.stdout


def test_comparison_holds_partners_and_galleries(mined):
    folder, *_ = mined
    (place,) = folder.glob("comparisons/[!.]*")
    comparison = load_comparison(place)
    assert set(comparison.tables["concept_matches"]["network_a"]) == {NETWORKS[0]}
    assert (place / f"galleries/{'__'.join(NETWORKS)}.jpg").is_file()
    assert "names" not in comparison.tables
    assert comparison.matrix(*NETWORKS).shape == (5, 5)


def test_tables_and_galleries_are_tracked(mined):
    folder, _, _, runs = mined
    train = next(run for run in runs if "seed" in run.config)
    tables = [pd.read_csv(path) for path in folder.glob("runs/*/nmf/*/concepts.csv")]
    found = read_table(train, "concepts")
    assert any((found["concept"] == table["concept"]).all() for table in tables)
    galleries = [key for row in train.history for key in row if key.startswith("galleries/")]
    assert len(galleries) == 5
    compare = next(run for run in runs if "seed" not in run.config)
    assert len(read_table(compare, "concept_matches")) == 20
    shown = [key for row in compare.history for key in row if key.startswith("galleries/")]
    assert shown == [f"galleries/{'__'.join(NETWORKS)}"]
    assert all(picture_exists(compare, key) for key in shown)


def test_probes_need_labels(mined):
    folder, *_ = mined
    result = soon(folder, "train.py", "data=images", "data.root=pictures", "logger=none")
    said = result.stdout + result.stderr
    assert result.returncode == 1
    assert "data=images has no labels" in said
    assert "concepts=factorisation" in said
    assert "Traceback" not in said


def test_probes_name_mined_concepts(tmp_path):
    """Paths as a user types them, relative, with the runs found by compare.py itself."""
    small = ("data.num_images={train: 30, val: 8, test: 24}", "data.size=48", "data.grid=[24,24]")
    common = (*small, "backbone.image_size=[64,64]", "num_workers=0", "logger=none")
    probed = soon(tmp_path, "train.py", "concepts.split_half=false", *common)
    mined = soon(tmp_path, "train.py", *MINING[:4], *common)
    names = [str(p.relative_to(tmp_path)) for p in tmp_path.glob("runs/*/probes/*")]
    result = soon(tmp_path, "compare.py", f"names={names[0]}", "agreement=[]", "logger=none")
    assert [r.returncode for r in (probed, mined, result)] == [0, 0, 0], result.stderr[-2000:]
    (place,) = tmp_path.glob("comparisons/[!.]*")
    table = pd.read_csv(place / "names.csv")
    assert len(table) == 20
    assert table["named"].any()


@pytest.mark.parametrize("given", ["nowhere", "runs/*/nmf/*"])
def test_names_come_from_one_probed_run(mined, given):
    folder, *_ = mined
    result = soon(folder, "compare.py", f"names={given}", "logger=none")
    said = result.stdout + result.stderr
    assert result.returncode == 1
    assert "Traceback" not in said
    assert "nowhere" in said or "names is 'runs/*/nmf/*'; give the folder of one probed run" in said
