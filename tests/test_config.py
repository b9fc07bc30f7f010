"""Every option of conf/ is composed, and every _target_ bound to its signature."""

import inspect
from itertools import product
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.types import RunMode
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

import cavalcade.conf
from cavalcade.cli import check_config, check_settings
from cavalcade.errors import InputError
from cavalcade.programs.train import SWITCHES

CONF = Path(cavalcade.conf.__file__).parent
TRAIN_KEYS = (
    *("backbone", "data", "concepts", "trainer", "logger"),
    *("seed", "batch_size", "num_workers", "runs", "force", "list", "list_layers", "estimate"),
    *("artifacts", "compile", "cache", "cache_gigabytes"),
)
OPTIONS = sorted(
    f"{path.parent.name}={path.stem}"
    for path in CONF.glob("*/*.yaml")
    if path.parent.name != "experiment"
)


def composed(name, *overrides):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(name, overrides=list(overrides))


def bind(node):
    if not isinstance(node, DictConfig):
        return 0
    bound = 0
    if "_target_" in node:
        given = {k for k in node if not k.startswith("_")}
        inspect.signature(get_object(node["_target_"])).bind_partial(**dict.fromkeys(given))
        bound = 1
    return bound + sum(bind(OmegaConf.select(node, str(k), default=None)) for k in node)


REQUIRED = {
    "backbone=timm": ["backbone.name=resnet18"],
    "backbone=torchvision": ["backbone.name=resnet18"],
    "backbone=yolo": ["backbone.name=yolov8n"],
    "backbone=custom": ["backbone.target=torchvision.models.resnet18", "backbone.image_size=32"],
    **{f"data={path.stem}": ["data.root=/x"] for path in CONF.glob("data/*.yaml")},
    "data=faces": [],
}


@pytest.mark.parametrize("option", OPTIONS)
def test_option_composes_and_binds(option):
    program = "compare" if option.startswith("logger") else "train"
    # what Hydra itself provides exists in a running program only
    overrides = ["logger.save_dir=x"] if option == "logger=csv" else []
    config = composed(program, option, *overrides, *REQUIRED.get(option, []))
    node = config[option.split("=")[0]]
    assert bind(node) >= (0 if option == "logger=none" else 1)
    if program == "train":
        check_config(config, TRAIN_KEYS)


@pytest.mark.parametrize("name", sorted(path.stem for path in CONF.glob("experiment/*.yaml")))
def test_every_job_of_an_experiment_composes(name):
    chosen = [f"experiment={name}", "data=coco", "data.root=/x"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        hydra = compose("train", overrides=chosen, return_hydra_config=True).hydra
    assert hydra.mode == RunMode.MULTIRUN
    swept = [
        [f"{key}={value}" for value in values.split(",")]
        for key, values in hydra.sweeper.params.items()
    ]
    jobs = list(product(*swept))
    assert len(jobs) == 6
    for overrides in jobs:
        check_config(composed("train", *chosen, *overrides), TRAIN_KEYS)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["+sead=1"], "unknown config key sead; closest: seed"),
        (["+data.gird=[8,8]"], "unknown config key data.gird; closest: data.grid"),
        (["+backbone.wieghts=x"], "unknown config key backbone.wieghts; closest: backbone.w"),
        (["+concepts.optimizer.ls=1"], "unknown config key concepts.optimizer.ls; closest"),
        (["+trainer.device=1"], r"unknown config key trainer.device; closest: trainer.devices"),
        (["data=folder"], "data.root is not set; add data.root="),
        (["backbone=timm"], "backbone.name is not set"),
    ],
)
def test_unknown_and_missing_keys_are_named(overrides, message):
    with pytest.raises(InputError, match=message):
        check_config(composed("train", *overrides), TRAIN_KEYS)


def test_a_mistyped_key_is_refused_by_hydra():
    with pytest.raises(Exception, match=r"data\.gird"):
        composed("train", "data.gird=[8,8]")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("compile=maybe", "compile is 'maybe'; give true or false"),
        ("cache=true", "cache is True; give a folder, or null"),
        ("cache=", "cache is ''; give a folder, or null"),
        ("cache=[a]", r"cache is \['a'\]; give a folder, or null"),
        ("force=maybe", "force is 'maybe'; give true or false"),
        ("force=1", "force is 1; give true or false"),
        ("runs=null", "runs is None; give a folder$"),
        ("runs=", "runs is ''; give a folder$"),
    ],
)
def test_values_without_sense_are_refused(override, message):
    with pytest.raises(InputError, match=message):
        check_settings(
            composed("train", override), SWITCHES, ("runs", "cache"), optional=("cache",)
        )
