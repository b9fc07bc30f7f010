"""Which layers to tap: by name, or by a rule that needs no list."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from cavalcade.backbones.tracing import WEIGHT_BEARING, Call, Trace
from cavalcade.errors import InputError, closest

RULES = ("stages", "blocks")
CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
FEWEST_BLOCKS = 4
FEWEST_TWINS = 2


@dataclass(frozen=True)
class Layer:
    """A tapped layer.

    Attributes:
        name: dotted name of its module.
        depth: relative depth, from 0 to 1; see `Trace.depth`.
        trunk: False for branches and heads, which stay out of rank correlations.
        channels: of its map.
        stride: input pixels per cell.
        grid: height and width of its map in cells.
    """

    name: str
    depth: float
    trunk: bool
    channels: int
    stride: float
    grid: tuple[int, int]


def choose_layers(
    model: nn.Module, trace: Trace, layers: str | Sequence[str], stage_ends: Sequence[str], who: str
) -> tuple[Layer, ...]:
    """The layers asked for, by rule or by name, in execution order.

    Args:
        model: the network.
        trace: its watched forward.
        layers: `stages` (the last layer of every stride), `blocks` (every repeated block, and
            the stage's end where a stride has none), or module names.
        stage_ends: what the zoo itself calls the ends of the stages; may be empty.
        who: the network's name, for errors.

    Raises:
        InputError: for a name that does not exist, does not run, or yields no map.
    """
    if layers == "stages":
        names = _stages(trace, stage_ends)
    elif layers == "blocks":
        names = _with_every_stride(_blocks(model, trace), _stages(trace, stage_ends), trace)
    else:
        names = [layers] if isinstance(layers, str) else list(layers)
    if not names:
        raise InputError(
            f"backbone.layers names no layer of {who}; give names, {' or '.join(RULES)}"
        )
    modules = dict(model.named_modules())
    for name in names:
        _check_name(name, modules, trace, who)
    unique = sorted(set(names), key=lambda name: trace.calls[name].order)
    return tuple(_describe(trace, name) for name in unique)


def _describe(trace: Trace, name: str) -> Layer:
    call = trace.calls[name]
    assert call.shape is not None
    return Layer(
        name=name,
        depth=round(trace.depth(name), 6),
        trunk=call.trunk,
        channels=call.shape[1],
        stride=round(trace.stride(name), 6),
        grid=_grid(trace, name),
    )


def _grid(trace: Trace, name: str) -> tuple[int, int]:
    shape = trace.calls[name].shape
    assert shape is not None
    return shape[2], shape[3]


def _check_name(name: str, modules: dict[str, nn.Module], trace: Trace, who: str) -> None:
    if name not in modules or not name:
        maps = [call.name for call in trace.calls.values() if call.is_map]
        raise InputError(
            f"no layer {name!r} in {who}; {closest(name, maps)}; or a rule: {', '.join(RULES)}"
        )
    if name not in trace.calls:
        raise InputError(f"layer {name!r} of {who} does not run in its forward; tap another")
    if not trace.calls[name].is_map:
        raise InputError(
            f"layer {name!r} of {who} yields no map (its output is "
            f"{trace.calls[name].shape}); tap one with channels, height and width"
        )


def _stages(trace: Trace, stage_ends: Sequence[str]) -> list[str]:
    """The last layer of every stride; the zoo's own word where all of it can be tapped."""
    if stage_ends and all(name in trace.calls and trace.calls[name].is_map for name in stage_ends):
        return list(stage_ends)
    return list({_grid(trace, call.name): call.name for call in _trunk_maps(trace)}.values())


def _with_every_stride(blocks: list[str], stages: list[str], trace: Trace) -> list[str]:
    covered = {_grid(trace, name) for name in blocks}
    return blocks + [name for name in stages if _grid(trace, name) not in covered]


def _blocks(model: nn.Module, trace: Trace) -> list[str]:
    """Every block of a network: the outermost units of several weight-bearing layers.

    A stage, that is a module of a class that somewhere holds three such units of one class, is
    entered; a block is taken and not entered. Networks without blocks (VGG) fall back on
    their activations.
    """
    maps = {call.name for call in _trunk_maps(trace)}
    units = {
        name: module
        for name, module in model.named_modules()
        if name in maps and not isinstance(module, CONTAINERS) and _weights(module) > 1
    }
    stages = {type(module) for name, module in units.items() if _holds_twins(name, units)}
    blocks: list[str] = []
    for name, module in units.items():  # parents come before their children
        inside = any(name.startswith(f"{block}.") for block in blocks)
        if type(module) not in stages and not inside:
            blocks.append(name)
    if len(blocks) >= FEWEST_BLOCKS:
        return blocks
    return _activations(model, maps)


def _holds_twins(name: str, units: dict[str, nn.Module]) -> bool:
    """Whether a unit holds three or more units of one class: a bottleneck may be made of two."""
    kinds = [
        type(module)
        for other, module in units.items()
        if other.startswith(f"{name}.") and type(module) is not type(units[name])
    ]
    return any(kinds.count(kind) > FEWEST_TWINS for kind in kinds)


def _activations(model: nn.Module, maps: set[str]) -> list[str]:
    leaves = {
        name: module
        for name, module in model.named_modules()
        if name in maps and not list(module.children())
    }
    activations = [n for n, m in leaves.items() if type(m).__module__.endswith("activation")]
    return activations or [n for n, m in leaves.items() if isinstance(m, WEIGHT_BEARING)]


def _weights(module: nn.Module) -> int:
    return sum(isinstance(child, WEIGHT_BEARING) for child in module.modules())


def _trunk_maps(trace: Trace) -> list[Call]:
    """Calls of the trunk that yield a map of more than one cell."""
    calls = (call for call in trace.calls.values() if call.is_map and call.trunk)
    return [call for call in calls if max(_grid(trace, call.name)) > 1]
