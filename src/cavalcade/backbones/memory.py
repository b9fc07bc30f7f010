"""Whether a device ran out of memory."""

import torch
from lightning.pytorch.utilities.memory import is_oom_error


def is_out_of_memory(error: Exception) -> bool:
    """Also where the error says so by its type alone, whatever its words."""
    return is_oom_error(error) or isinstance(error, torch.cuda.OutOfMemoryError)
