"""The layers that can be chosen, as the terminal shows them."""

import pytest

from cavalcade.backbones.layers import every_map
from cavalcade.errors import InputError
from cavalcade.report.layers import layer_table, print_layers
from zoo import built

COLUMNS = ["layer", "part", "depth", "channels", "stride", "grid", "stages", "blocks"]


def resnet():
    return built("timm", "resnet18", (64, 96))


def detector():
    return built("torchvision", "fasterrcnn_mobilenet_v3_large_320_fpn", 128)


def test_a_row_for_each_layer_of_a_rule():
    table = layer_table(resnet())
    assert list(table.columns) == COLUMNS
    blocks = [f"layer{stage}.{block}" for stage in (1, 2, 3, 4) for block in (0, 1)]
    stages = ["act1", "layer1", "layer2", "layer3", "layer4"]
    assert sorted(table["layer"]) == sorted({*blocks, *stages})
    assert list(table["layer"][table["stages"] == "x"]) == stages
    assert list(table["layer"][table["blocks"] == "x"]) == ["act1", *blocks]
    assert set(table["stages"]) | set(table["blocks"]) == {"x", ""}


def test_what_it_says_of_a_layer():
    table = layer_table(resnet()).set_index("layer")
    assert list(table.loc["act1"]) == ["trunk", 1 / 20, 64, "2", "32 x 48", "x", "x"]
    assert list(table.loc["layer4"]) == ["trunk", 1.0, 512, "32", "2 x 3", "x", ""]
    assert list(table["depth"]) == sorted(table["depth"])


def test_branches_are_marked():
    table = layer_table(detector()).set_index("layer")
    branches = table[table["part"] == "branch"]
    assert list(branches.index) == ["backbone.fpn.layer_blocks.1", "backbone.fpn.layer_blocks.0"]
    assert (branches["depth"] == 1.0).all()


def test_everything_is_every_map():
    backbone = resnet()
    table = layer_table(backbone, everything=True)
    assert list(table["layer"]) == every_map(backbone.trace)
    assert {"conv1", "layer1.0.conv1", "layer4.1.bn2"} <= set(table["layer"])
    assert "fc" not in set(table["layer"])
    chosen = layer_table(backbone)
    kept = table[(table["stages"] == "x") | (table["blocks"] == "x")].reset_index(drop=True)
    assert kept.equals(chosen)


@pytest.mark.parametrize("which", [True, "true", "True"])
def test_it_is_printed_with_whole_names_and_the_way_on(capsys, which):
    print_layers(detector(), which)
    printed = capsys.readouterr().out
    label = "fasterrcnn_mobilenet_v3_large_320_fpn-random"
    assert f"{label}: layers for images of 128 x 128 pixels" in printed
    assert "backbone.fpn.layer_blocks.0" in printed
    assert "backbone.body.1.block.0.0" not in printed
    maps = len(every_map(detector().trace))
    sentence = (
        f"backbone.layers takes stages or blocks, or a list of names; any of its {maps} layers "
        "that yield a map can be named, which list_layers=all lists."
    )
    assert sentence in " ".join(printed.split())


@pytest.mark.parametrize("which", ["all", "ALL"])
def test_all_prints_every_map(capsys, which):
    print_layers(resnet(), which)
    printed = capsys.readouterr().out
    for name in every_map(resnet().trace):
        assert f" {name} " in printed
    assert "list_layers=all" not in printed
    assert printed.rstrip().endswith("can be named.")


@pytest.mark.parametrize("which", ["everything", "1", "none"])
def test_another_word(which):
    with pytest.raises(InputError, match=rf"^list_layers is '{which}'; give one of true, all$"):
        print_layers(resnet(), which)
