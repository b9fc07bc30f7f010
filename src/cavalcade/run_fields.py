"""What the `meta.json` of a run folder must say, checked once when a run is loaded."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cavalcade.backbones import Layer
from cavalcade.concepts.concept_set import KINDS
from cavalcade.data.sample import SPLITS
from cavalcade.errors import InputError
from cavalcade.meta_fields import MOST_SEED, WAY_OUT, Fields

PROBES = "probes"
METHODS = (PROBES, *(kind for kind in KINDS if kind != "probe"))
STRIDES, DEPTHS = (1e-9, 1e9), (0.0, 1.0)


@dataclass(frozen=True)
class RunFields:
    """The fields of a run that numbers, names and paths are made of.

    Attributes:
        label: of the network; a folder can be called so.
        method: one of `METHODS`.
        random: whether the weights are.
        layers: the taps, in execution order.
        labels: the concepts that the data set names.
        data: the data set's name.
        test: fingerprint of the test images.
        grid: height and width of the common grid.
        left_out: how many images of each split could not be read; none is named without any.
    """

    label: str
    method: str
    random: bool
    layers: tuple[Layer, ...]
    labels: tuple[str, ...]
    data: str
    test: str
    grid: tuple[int, int]
    left_out: Mapping[str, int]

    @classmethod
    def of(cls, meta: dict[str, Any], path: Path) -> "RunFields":
        """What a file says.

        Raises:
            InputError: naming the file and the field that is not as it must be.
        """
        fields = Fields(meta, path)
        if "random" not in meta:
            raise InputError(f"{path.parent} was made by an older version; run train.py again")
        data = fields.fields("data")
        found = cls(
            label=fields.plain_name("label"),
            method=fields.text("method"),
            random=fields.flag("random"),
            layers=_layers(fields),
            labels=fields.texts("concepts", distinct=True),
            data=data.plain_name("name"),
            test=data.word("test"),
            grid=data.size("grid"),
            left_out=_left_out(data),
        )
        if found.method not in METHODS:
            raise fields.wrong("method", f"one of {', '.join(METHODS)}")
        fields.word("digest")
        _check_identity(fields.fields("identity"))
        return found


def _layers(fields: Fields) -> tuple[Layer, ...]:
    layers = tuple(
        Layer(
            name=each.word("name"),
            depth=each.number("depth", *DEPTHS),
            trunk=each.flag("trunk"),
            channels=each.whole("channels", 1),
            stride=each.number("stride", *STRIDES),
            grid=each.size("grid"),
        )
        for each in fields.each("layers")
    )
    names = {layer.name for layer in layers}
    if not layers or len(names) < len(layers):
        raise InputError(f"{fields.path}: layers names none, or one twice; {WAY_OUT}")
    return layers


def _left_out(data: Fields) -> dict[str, int]:
    if "left_out" not in data.content:
        return {}
    counts = data.fields("left_out")
    if not set(counts.content) <= set(SPLITS):
        raise data.wrong("left_out", f"numbers of images of {', '.join(SPLITS)}")
    return {split: counts.whole(split, 1) for split in counts.content}


def _check_identity(identity: Fields) -> None:
    """Raise unless all is there that runs are told apart by, and warned of."""
    backbone = identity.fields("backbone")
    for digest in ("architecture", "weights"):
        backbone.word(digest)
    identity.word("cavalcade")
    for settings in ("method", "trainer"):
        identity.fields(settings)
    for number in ("seed", "batch_size"):
        identity.whole(number, -MOST_SEED, MOST_SEED)
    images = identity.fields("data")
    for split in images.content:
        images.word(split)
