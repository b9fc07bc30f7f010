"""What takes memory or processes from a visit, as one sentence."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from torch.utils.data import dataloader

from cavalcade.backbones.memory import is_out_of_memory
from cavalcade.children import AGAIN
from cavalcade.errors import InputError, lacks_memory
from cavalcade.processes import ORIGIN

LOST_WORKER = "DataLoader worker (pid"  # as torch begins to say it
GONE = (ConnectionError, FileNotFoundError, EOFError)  # of a socket whose process has ended
SHARED_MEMORY = "out of shared memory"
IN_WORKER = "in DataLoader worker process"  # as torch says it of an error of the data's own


@contextmanager
def failures_said(label: str, num_workers: int) -> Iterator[None]:
    """Turn the loss of memory, or of a process that loads images, into a sentence.

    Args:
        label: of the network.
        num_workers: processes that load images.

    Raises:
        InputError: naming the way out; all other errors are left as they are.
    """
    try:
        yield
    except (RuntimeError, MemoryError, *GONE) as error:
        sentence = _sentence(error, label, num_workers)
        if sentence is None:
            raise
        said = InputError(sentence)
        if hasattr(error, ORIGIN):  # which of several processes it comes from
            setattr(said, ORIGIN, getattr(error, ORIGIN))
        raise said from error


def _sentence(error: Exception, label: str, num_workers: int) -> str | None:
    if str(error).startswith(LOST_WORKER) or (num_workers and _is_of_a_worker_gone(error)):
        why = (
            "had no shared memory left, so enlarge /dev/shm"
            if SHARED_MEMORY in str(error)
            else "was killed (out of memory, or by hand), so make memory free"
        )
        return (
            f"a process that loads images {why}, or lower num_workers (now {num_workers}; 0 "
            f"starts none) or batch_size, and {AGAIN}"
        )
    if lacks_memory(error):
        return (
            f"this machine has no memory for the visit to {label}; make memory free, lower "
            f"num_workers or batch_size, or give fewer backbone.layers, and {AGAIN}"
        )
    if is_out_of_memory(error):
        return (
            f"the device has no memory for what a visit to {label} keeps there beside its images; "
            "give fewer backbone.layers or concepts, or trainer.accelerator=cpu"
        )
    return None


def _is_of_a_worker_gone(error: Exception) -> bool:
    """Whether a worker vanished while its batch was fetched, before torch could notice."""
    if not isinstance(error, GONE) or IN_WORKER in str(error):
        return False
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_code.co_filename == dataloader.__file__ for frame, _ in frames)
