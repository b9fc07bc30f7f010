"""Adapter of the timm zoo."""

import contextlib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError
from timm.data.config import resolve_model_data_config
from timm.layers.patch_embed import PatchEmbed
from timm.models import get_arch_pretrained_cfgs
from torch import nn

from cavalcade.backbones.frozen import FrozenBackbone, Network
from cavalcade.backbones.preprocessing import Preprocessing, check_multiples, input_size
from cavalcade.backbones.weights import downloading, load_weights, seeded, variant
from cavalcade.errors import InputError, closest


def timm_backbone(
    name: str,
    *,
    weights: str = "pretrained",
    layers: str | Sequence[str] = "stages",
    image_size: int | Sequence[int] | None = None,
    crop_mode: str = "squash",
    crop_pct: float | None = None,
    label: str | None = None,
    seed: int = 0,
) -> FrozenBackbone:
    """A network of timm, frozen.

    Args:
        name: as timm calls it, `resnet50` or `resnet50.a1_in1k`.
        weights: `pretrained` (timm's own download), `random` (seeded), a file, or
            `package:<name>` for an installed package that carries them.
        layers: `stages`, `blocks`, or module names.
        image_size: side, or height and width, of the network's input; the model's own if None.
        crop_mode: `squash` shows the network the whole image; `center` is the crop that timm
            evaluates with; `border` pads.
        crop_pct: share of the resized image that is seen; if None the model's own for
            `center`, and all of it otherwise.
        label: how the network is called; its name if None.
        seed: of random weights, together with the name.

    Raises:
        InputError: for an unknown name or layer, or weights that do not fit.
    """
    _check_name(name)
    model = _build(name, weights, seed)
    config: dict[str, Any] = getattr(model, "pretrained_cfg", {})
    preprocessing = _preprocessing(model, image_size, crop_mode, crop_pct)
    _fit_input(model, preprocessing.size, name)
    classifier = config.get("classifier") or ()
    network = Network(
        label=(label or name) + variant(weights),
        model=model,
        preprocessing=preprocessing,
        head=(*((classifier,) if isinstance(classifier, str) else classifier), "pre_logits"),
        stage_ends=_stage_ends(model),
        random=weights == "random",
    )
    return FrozenBackbone(network, layers)


def _check_name(name: str) -> None:
    if not timm.is_model(name):
        raise InputError(f"timm has no model {name!r}; {closest(name, timm.list_models())}")
    architecture, dot, _ = name.partition(".")
    tagged = get_arch_pretrained_cfgs(architecture)
    if dot and name not in tagged:
        raise InputError(f"timm has no weights {name!r}; {closest(name, tagged)}")


def _build(name: str, weights: str, seed: int) -> nn.Module:
    with seeded(seed, name):
        if weights != "pretrained":
            model = timm.create_model(name, pretrained=False)
        else:
            model = _download(name)
    if weights not in ("pretrained", "random"):
        load_weights(model, weights)
    return model.eval()


def _download(name: str) -> nn.Module:
    config = timm.get_pretrained_cfg(name)
    if config is not None and not config.has_weights:
        raise InputError(
            f"timm has no pretrained weights of {name!r}; set backbone.weights to a file or to "
            "random"
        )
    with downloading(name):
        if config is not None and config.hf_hub_id:
            _reach_hub(config.hf_hub_id)
        return timm.create_model(name, pretrained=True)


def _reach_hub(repository: str) -> None:
    """Ask the hub for an answer, once, unless something of the repository lies in its cache.

    Its own download asks twelve times, for 45 seconds, before it finds that there is no network.
    """
    cached = Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"
    if not any(cached.glob("snapshots/*/*")):
        with contextlib.suppress(HfHubHTTPError):  # no such file, say: an answer all the same
            get_hf_file_metadata(hf_hub_url(repository, "model.safetensors"))


def _preprocessing(
    model: nn.Module, image_size: int | Sequence[int] | None, crop_mode: str, crop_pct: float | None
) -> Preprocessing:
    config: dict[str, Any] = resolve_model_data_config(model)
    own_crop = config["crop_pct"] if crop_mode == "center" else 1.0
    return Preprocessing(
        size=input_size(config["input_size"][1:] if image_size is None else image_size),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        crop_mode=crop_mode,
        crop_pct=crop_pct if crop_pct is not None else own_crop,
        interpolation=config["interpolation"],
    )


def _fit_input(model: nn.Module, size: tuple[int, int], name: str) -> None:
    """Bring a network of fixed input size, a transformer, to another one.

    Its position embeddings are interpolated, as timm does. Most others take any size.
    """
    patches = getattr(model, "patch_embed", None)
    if isinstance(patches, PatchEmbed):  # which cuts off what makes no whole patch
        rows, columns = patches.patch_size
        check_multiples(size, (rows, columns), name, f"its patches, {rows} x {columns}")
    own = resolve_model_data_config(model)["input_size"][1:]
    resize = getattr(model, "set_input_size", None)
    if tuple(own) == size or resize is None:
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # timm's interpolation warns of its own indexing
            resize(img_size=size)
    except (AssertionError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise InputError(
            f"{name} cannot be brought to images of {size[0]} x {size[1]} pixels ({reason}); set "
            f"another backbone.image_size, its own is {list(own)}"
        ) from error


def _stage_ends(model: nn.Module) -> tuple[str, ...]:
    info = getattr(model, "feature_info", None) or ()
    entries = info if isinstance(info, list | tuple) else info.info
    return tuple(entry["module"] for entry in entries if entry.get("module"))
