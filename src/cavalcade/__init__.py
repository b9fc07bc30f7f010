"""cavalcade: which layers of which networks mean the same."""

from cavalcade.backbones import FrozenBackbone
from cavalcade.comparing.analysis import Analysis
from cavalcade.comparing.comparison import compare
from cavalcade.comparing.comparison_folder import load_comparison
from cavalcade.errors import InputError
from cavalcade.runs import Run, load_run
from cavalcade.version import __version__

__all__ = [
    "Analysis",
    "FrozenBackbone",
    "InputError",
    "Run",
    "__version__",
    "compare",
    "load_comparison",
    "load_run",
]
