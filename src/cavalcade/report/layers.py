"""The layers of a network that can be tapped, as a table for the terminal."""

import pandas as pd

from cavalcade.backbones import FrozenBackbone
from cavalcade.backbones.layers import RULES, describe, every_map
from cavalcade.errors import check_choice
from cavalcade.report.tables import print_sentence, print_table

NEVER_FOLDED = 1000  # characters: the names of layers are to be copied


def layer_table(backbone: FrozenBackbone, *, everything: bool = False) -> pd.DataFrame:
    """A row for each layer that a rule chooses, or for every one that can be tapped.

    Columns: `layer`; `part`, trunk or branch; relative `depth`; `channels`; `stride` in pixels of
    the input; `grid`, rows x columns; and for each rule a cross where it chooses the layer.
    """
    chosen = {rule: {layer.name for layer in backbone.choose(rule)} for rule in RULES}
    listed = every_map(backbone.trace)
    if not everything:
        listed = [name for name in listed if any(name in names for names in chosen.values())]
    layers = [describe(backbone.trace, name) for name in listed]
    columns = {
        "layer": listed,
        "part": ["trunk" if layer.trunk else "branch" for layer in layers],
        "depth": [layer.depth for layer in layers],
        "channels": [layer.channels for layer in layers],
        "stride": [f"{layer.stride:.4g}" for layer in layers],
        "grid": [f"{layer.grid[0]} x {layer.grid[1]}" for layer in layers],
    }
    crosses = {
        rule: ["x" if name in names else "" for name in listed] for rule, names in chosen.items()
    }
    return pd.DataFrame(columns | crosses)


def print_layers(backbone: FrozenBackbone, which: bool | str) -> None:
    """Print what layers there are to choose from.

    Args:
        backbone: the network.
        which: True for those of the rules, `all` for every one that can be tapped.

    Raises:
        InputError: for another word.
    """
    word = str(which).lower()
    check_choice("list_layers", word, ("true", "all"))
    table = layer_table(backbone, everything=word == "all")
    height, width = backbone.preprocessing.size
    title = f"{backbone.label}: layers for images of {height} x {width} pixels"
    print_table(title, table, width=NEVER_FOLDED)
    more = "" if word == "all" else ", which list_layers=all lists"
    print_sentence(
        f"backbone.layers takes {' or '.join(RULES)}, or a list of names; any of its "
        f"{len(every_map(backbone.trace))} layers that yield a map can be named{more}."
    )
