"""Other packages that benchmarks measure beside ours, in the same run."""

import importlib
from types import ModuleType

from benchmarks.quiet import quiet
from cavalcade.errors import InputError

# what they are called in the registry, where it is not what Python calls them
PACKAGES = {"cka": "pytorch-cka", "torch_cka": "torch-cka"}


def peer(module: str) -> ModuleType:
    """A module of another package.

    Raises:
        InputError: if the package is not installed.
    """
    name = module.partition(".")[0]
    package = PACKAGES.get(name, name)
    try:
        with quiet():
            return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] != name:
            raise
        raise InputError(
            f"{package} is not installed, and is measured beside ours; "
            'pip install -e ".[benchmarks]" installs it'
        ) from error
