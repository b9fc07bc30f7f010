"""What is said of a command line that Hydra refuses."""

import re
import sys

import pytest
from hydra import compose, initialize_config_module
from hydra.errors import HydraException

from cavalcade.errors import InputError
from cavalcade.hydra_errors import check_choices, sentence

ALL = "; all are listed by python train.py --cfg job"


def said(monkeypatch, arguments, overrides=None):
    """The sentence after a program got these arguments; overrides are those of one job."""
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
    with initialize_config_module("cavalcade.conf", version_base="1.3"):
        with pytest.raises(HydraException) as within:
            compose("train", overrides=overrides or arguments)
        while_it_runs = sentence(within.value)
    assert sentence(within.value) == while_it_runs  # after Hydra has ended
    return while_it_runs


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["concpts.rows=3"], f"unknown config key concpts.rows; closest: concepts.rows, .*{ALL}$"),
        (["data=folder", "data.rot=x"], r"unknown config key data.rot; closest: data\.root, "),
        (["zzzqqq=1"], "^unknown config key zzzqqq; the keys are listed by python train.py --cfg"),
        (["hydra.swep.dir=x"], r"closest: hydra\.sweep\.dir, .*listed by .* --cfg hydra$"),
        (["backbone=efficientnet_lte0"], "^there is no backbone=efficientnet_lte0; closest: eff"),
        (["data=zzz"], "^there is no data=zzz; there are: ade20k, "),
        (["backbone=@names.txt"], "names.txt names values to sweep over; add -m"),
    ],
)
def test_the_nearest_is_named(monkeypatch, arguments, expected):
    found = said(monkeypatch, arguments)
    assert re.search(expected, found), found
    assert "\n" not in found


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("backbone=3", "^there is no backbone=3; give it by its name$"),
        ("experiment=null", "^there is no experiment=null; give it by its name$"),
        ("data=[faces,3]", r"^there is no data=\[faces,3\]; give it by its name$"),
        ("+backbone@other=true", "^there is no backbone=true; give it by its name$"),
        ("=3", "^=3 names no setting; write OPTION=VALUE$"),
        ("+=x", r"^\+=x names no setting; write OPTION=VALUE$"),
    ],
)
def test_an_option_without_a_name_is_refused(argument, message):
    with pytest.raises(InputError, match=message):
        check_choices(["-m", argument])


def test_options_with_a_name_are_left_to_hydra():
    groups = ("backbone=efficientnet_lite0,efficientnet_lite2", "data=faces", "~logger")
    others = ("hydra/launcher=joblib", "+experiment=[one,two]", "backbone.name='@names.txt'")
    values = ("seed=3", "runs=null", "a=", "data.num_images={train:16}", "x=(y")
    check_choices(["-m", *groups, *others, *values, "--cfg", "job"])


def test_the_nearest_of_a_sweep_is_among_the_keys_of_what_all_jobs_have(monkeypatch):
    job = ["data=folder", "data.rot=x", "backbone=vit_small"]
    found = said(monkeypatch, [*job[:2], "backbone=vit_small,swin_tiny", "-m"], job)
    assert found.startswith("unknown config key data.rot; closest: data.root, ")
