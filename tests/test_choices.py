"""What list= prints."""

import pytest
import timm
from hydra import initialize_config_module
from hydra.core.global_hydra import GlobalHydra

from cavalcade.errors import InputError
from cavalcade.report.choices import GROUPS, description, print_choices
from test_config import CONF


@pytest.fixture
def hydra(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    with initialize_config_module("cavalcade.conf", version_base="1.3"):
        yield


@pytest.mark.parametrize("what", GROUPS)
@pytest.mark.usefixtures("hydra")
def test_every_option_of_a_group_is_described(capsys, what):
    print_choices(what)
    said = capsys.readouterr().out
    for path in CONF.glob(f"{GROUPS[what]}/*.yaml"):
        assert f"│ {path.stem} " in said
        assert description(f"{GROUPS[what]}/{path.name}") not in ("", "-"), path


@pytest.mark.usefixtures("hydra")
def test_brackets_are_no_markup(capsys):
    print_choices("backbones")
    assert "pip install 'cavalcade[yolo]' (AGPL-3.0)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("zoo", "name"), [("timm", "resnet18"), ("torchvision", "ssd300_vgg16"), ("yolo", "yolov8n")]
)
def test_names_of_a_zoo_are_lines(capsys, zoo, name):
    if zoo == "yolo":
        pytest.importorskip("ultralytics")
    print_choices(zoo)
    lines = capsys.readouterr().out.splitlines()
    assert name in lines
    assert lines == sorted(lines) or zoo == "timm"
    if zoo == "timm":
        assert lines == timm.list_models()


def test_options_of_ones_own_are_listed_too(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/mine.yaml").write_text("# my own images\nroot: x\n")
    with initialize_config_module("cavalcade.conf", version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        loader.get_search_path().append("command-line", f"file://{tmp_path}")
        loader.repository.initialize_sources(loader.get_search_path())
        print_choices("data")
    assert "│ mine " in (said := capsys.readouterr().out)
    assert "│ my own images " in said


def test_another_word_is_refused():
    with pytest.raises(InputError, match="list is 'networks'; give one of backbones, data, "):
        print_choices("networks")
