"""Which layers to tap: by name, or by a rule that needs no list."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn

from cavalcade.backbones.tracing import WEIGHT_BEARING, Call, Trace
from cavalcade.errors import InputError, closest

RULES = ("stages", "blocks")
CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
FEWEST_TAPS = 4
MOST_TAPS = 60
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
    model: nn.Module,
    trace: Trace,
    layers: str | Sequence[str],
    *,
    who: str,
    stage_ends: Sequence[str] = (),
    branches: Sequence[str] = (),
) -> tuple[Layer, ...]:
    """The layers asked for, by rule or by name, in execution order.

    Args:
        model: the network.
        trace: its watched forward.
        layers: `stages` (the last layer of every stride), `blocks` (every repeated block, and
            the stage's end where a stride has none), or module names. The rules find up to 60;
            where `stages` has fewer than 4, as transformers of one stride do, the blocks.
        who: the network's name, for errors.
        stage_ends: what the zoo itself calls the ends of the stages; may be empty.
        branches: shell patterns of the modules outside of the trunk that the rules take too.

    Raises:
        InputError: for a name that does not exist, does not run, or yields no map.
    """
    if layers in RULES:
        names = _by_rule(model, trace, str(layers), stage_ends, branches)
    elif isinstance(layers, str | Sequence) and all(isinstance(name, str) for name in layers):
        names = [layers] if isinstance(layers, str) else list(layers)
    else:
        raise InputError(f"backbone.layers is {layers!r}; give names, or {' or '.join(RULES)}")
    if not names:
        raise InputError(
            f"backbone.layers names no layer of {who}; give names, {' or '.join(RULES)}"
        )
    modules = dict(model.named_modules())
    for name in names:
        _check_name(name, modules, trace, who)
    return tuple(describe(trace, name) for name in _in_order(names, trace))


def every_map(trace: Trace) -> list[str]:
    """All layers that can be tapped, in execution order."""
    return _in_order((call.name for call in trace.calls.values() if call.layout), trace)


def describe(trace: Trace, name: str) -> Layer:
    """What a trace says of a layer that yields a map."""
    layout = trace.layout(name)
    return Layer(
        name=name,
        depth=round(trace.depth(name), 6),
        trunk=trace.calls[name].trunk,
        channels=layout.channels,
        stride=round(trace.stride(name), 6),
        grid=layout.grid,
    )


def _check_name(name: str, modules: dict[str, nn.Module], trace: Trace, who: str) -> None:
    if name not in modules or not name:
        maps = [call.name for call in trace.calls.values() if call.layout]
        raise InputError(
            f"no layer {name!r} in {who}; {closest(name, maps)}; or a rule: {', '.join(RULES)}"
        )
    if name not in trace.calls:
        raise InputError(f"layer {name!r} of {who} does not run in its forward; tap another")
    if not trace.calls[name].layout:
        raise InputError(
            f"layer {name!r} of {who} yields no map (its output is "
            f"{trace.calls[name].shape}); tap one with channels, height and width, or with tokens"
        )


def _by_rule(
    model: nn.Module, trace: Trace, rule: str, stage_ends: Sequence[str], branches: Sequence[str]
) -> list[str]:
    """At most 60 layers of the trunk and its branches, those that end a stride among them."""
    blocks = _blocks(model, trace)
    names = _stages(trace, blocks, stage_ends)
    if rule == "blocks":
        names = blocks + _uncovered(names, blocks, trace)
    if len(names) < FEWEST_TAPS:  # transformers keep one stride throughout
        names = max(names, blocks, key=len)
    outside = [
        call.name
        for call in _maps(trace, trunk=False)
        if any(fnmatchcase(call.name, pattern) for pattern in branches)
    ]
    return _thinned(names + outside, trace)


def _thinned(names: Sequence[str], trace: Trace) -> list[str]:
    """At most 60 of the layers: the last of each stride, and others spread evenly."""
    names = _in_order(names, trace)
    last = {(trace.calls[n].trunk, trace.layout(n).grid): n for n in names}.values()
    others = [name for name in names if name not in last]
    room = MOST_TAPS - len(last)
    if len(others) > room:
        others = [others[(i + 1) * len(others) // room - 1] for i in range(room)]
    return _in_order([*last, *others], trace)


def _in_order(names: Iterable[str], trace: Trace) -> list[str]:
    return sorted(set(names), key=lambda name: trace.calls[name].order)


def _stages(trace: Trace, blocks: Sequence[str], stage_ends: Sequence[str]) -> list[str]:
    """The zoo's own word where all of it can be tapped; else the last layer of every stride.

    Where that is too few, as in dilated networks, the last of every number of channels too.
    """
    if stage_ends and all(name in trace.calls and trace.calls[name].layout for name in stage_ends):
        return _stem(trace, blocks, stage_ends) + list(dict.fromkeys(stage_ends))
    blocks = _in_order(blocks, trace)
    ends = list({trace.layout(name).grid: name for name in blocks}.values())
    stem = _stem(trace, blocks, blocks)
    if len(stem) + len(ends) < FEWEST_TAPS:
        ends = list({trace.layout(name): name for name in blocks}.values())
    return stem + [_outermost(name, trace) for name in ends]


def _stem(trace: Trace, blocks: Sequence[str], taps: Sequence[str]) -> list[str]:
    """The last layer of every stride that no tap has, without those inside blocks and taps."""
    around = [*blocks, *taps]
    outside = [call.name for call in _maps(trace) if not _inside(call.name, around)]
    last = {trace.layout(name).grid: name for name in outside}
    return _uncovered(list(last.values()), taps, trace)


def _inside(name: str, blocks: Iterable[str]) -> bool:
    return any(name.startswith(f"{block}.") for block in blocks)


def _outermost(name: str, trace: Trace) -> str:
    """The module around a layer that ends with it, `layer1` for `layer1.2`."""
    call, found = trace.calls[name], name
    while name := name.rpartition(".")[0]:
        around = trace.calls.get(name)
        if around and (around.shape, around.calls_before) == (call.shape, call.calls_before):
            found = name
    return found


def _uncovered(names: Sequence[str], taps: Sequence[str], trace: Trace) -> list[str]:
    """Those of the layers whose stride no tap has."""
    covered = {trace.layout(name).grid for name in taps}
    return [name for name in names if trace.layout(name).grid not in covered]


def _blocks(model: nn.Module, trace: Trace) -> list[str]:
    """Every block of a network: the outermost units of several weight-bearing layers.

    A stage, that is a module of a class that somewhere holds three such units of one class, is
    entered; a block is taken and not entered. Networks without blocks (VGG) fall back on
    their activations.
    """
    maps = {call.name for call in _maps(trace)}
    units = {
        name: module
        for name, module in model.named_modules()
        if name in maps and not isinstance(module, CONTAINERS) and _weights(module) > 1
    }
    stages = {type(module) for name, module in units.items() if _holds_twins(name, units)}
    blocks: list[str] = []
    for name, module in units.items():  # parents come before their children
        if type(module) not in stages and not _inside(name, blocks):
            blocks.append(name)
    if len(blocks) >= FEWEST_TAPS:
        return blocks
    return max(blocks, _activations(model, maps), key=len)


def _holds_twins(name: str, units: dict[str, nn.Module]) -> bool:
    """Whether a unit holds three or more units of one class: a bottleneck may be made of two."""
    kinds = [
        type(module)
        for other, module in units.items()
        if other.startswith(f"{name}.") and type(module) is not type(units[name])
    ]
    return any(kinds.count(kind) > FEWEST_TWINS for kind in kinds)


def _activations(model: nn.Module, maps: set[str]) -> list[str]:
    """Every activation, or weight-bearing layer, or the small block that it is all of."""
    leaves = {
        name: module
        for name, module in model.named_modules()
        if name in maps and not list(module.children())
    }
    activations = [n for n, m in leaves.items() if type(m).__module__.endswith("activation")]
    units = activations or [n for n, m in leaves.items() if isinstance(m, WEIGHT_BEARING)]
    return [_block_around(name, units, maps) for name in units]


def _block_around(leaf: str, leaves: Sequence[str], maps: set[str]) -> str:
    """The outermost module around a leaf that yields a map and holds no other of the leaves."""
    found = name = leaf
    while name := name.rpartition(".")[0]:
        if sum(other.startswith(f"{name}.") for other in leaves) > 1:
            break
        found = name if name in maps else found
    return found


def _weights(module: nn.Module) -> int:
    return sum(isinstance(child, WEIGHT_BEARING) for child in module.modules())


def _maps(trace: Trace, *, trunk: bool = True) -> list[Call]:
    """Calls within the trunk, or outside of it, that yield a map of more than one cell."""
    calls = (call for call in trace.calls.values() if call.layout and call.trunk == trunk)
    return [call for call in calls if max(trace.layout(call.name).grid) > 1]
