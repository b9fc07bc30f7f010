"""Tensors of safetensors files that anybody may have written."""

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from cavalcade.errors import InputError, one_line
from cavalcade.meta_fields import WAY_OUT


def read_tensors(path: Path, *names: str) -> dict[str, Tensor]:
    """Read some tensors of a safetensors file, or all.

    Raises:
        InputError: if the file is missing or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in names or file.keys()}
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} cannot be read ({one_line(error)}); {WAY_OUT}") from error


def check_tensor(
    path: Path,
    name: str,
    tensor: Tensor,
    dtype: torch.dtype,
    shape: Sequence[int],
    *,
    infinite: bool = False,
) -> Tensor:
    """The same tensor, if it is of a type and shape, its numbers finite unless it may be infinite.

    Raises:
        InputError: naming the file, the tensor and what it is.
    """
    if tensor.dtype != dtype or tuple(tensor.shape) != tuple(shape):
        raise InputError(
            f"{path}: {name} is {_described(tensor.dtype, tensor.shape)}, not "
            f"{_described(dtype, shape)}; {WAY_OUT}"
        )
    if dtype.is_floating_point and not bool(
        (~tensor.isnan() if infinite else tensor.isfinite()).all()
    ):
        raise InputError(f"{path}: {name} holds numbers that are not finite; {WAY_OUT}")
    return tensor


def _described(dtype: torch.dtype, shape: Sequence[int]) -> str:
    return f"{str(dtype).removeprefix('torch.')} {tuple(shape)}"
