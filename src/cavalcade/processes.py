"""Several processes that make one visit together: what they share out, and what they tell.

A visit is one program that runs in each of them. Images, and what is mined, are shared out; the
first process alone writes and prints. Where there is one process, it is the first.
"""

import functools
import logging
import os
import pickle
import signal
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import torch.distributed as dist
from lightning.fabric import Fabric

from cavalcade.children import AGAIN, bound_to_us, signals_at_once
from cavalcade.errors import InputError
from cavalcade.progress import progress

Item = TypeVar("Item")
Result = TypeVar("Result")
Attempt = tuple[Any, Exception | None]  # of some work: what it made, or its error

MEETING = (  # variables of what starts processes on several machines, and of a user who does
    *("MASTER_ADDR", "TORCHELASTIC_RUN_ID", "SLURM_JOB_ID", "OMPI_COMM_WORLD_RANK", "LSB_JOBID"),
)
ORIGIN = "rank_of_origin"  # attribute of an error that other processes raise too
LOST = ("closed by peer", "reset by peer", "remote process exited")  # as gloo says, and NCCL
LONGEST_WAIT = timedelta(days=2)  # the others wait while one reads, mines or writes


def start(settings: Mapping[str, Any]) -> None:
    """Start the other processes, and meet them; each runs this program from its beginning.

    Args:
        settings: of the trainer: accelerator, devices, num_nodes.

    Raises:
        InputError: if it asks for several machines, and nothing says where they meet.
    """
    machines = settings.get("num_nodes", 1)
    if machines > 1 and not any(name in os.environ for name in MEETING):
        raise InputError(
            f"trainer.num_nodes is {machines}, and nothing says where the machines meet: call the "
            "command under srun or torchrun, or on each machine with MASTER_ADDR and MASTER_PORT "
            "of the first and NODE_RANK=0, 1, …"
        )
    fabric = Fabric(
        accelerator=settings.get("accelerator", "auto"),
        devices=settings.get("devices", "auto"),
        num_nodes=machines,
        strategy="ddp",
    )
    # one that waits for a process that has ended would not hear a milder signal
    with bound_to_us(signal.SIGKILL), signals_at_once():
        fabric.launch()
    if _meet():
        _group()
    if not is_first():
        logging.getLogger().setLevel(logging.ERROR)


def count() -> int:
    """How many processes there are."""
    return dist.get_world_size() if _meet() else 1


def rank() -> int:
    """Which of them this is, from 0."""
    return dist.get_rank() if _meet() else 0


def is_first() -> bool:
    """Whether this process writes and prints."""
    return rank() == 0


def announced_rank(environ: Mapping[str, str]) -> int:
    """Which process this will be, as far as what started it says before they have met.

    Args:
        environ: of the program, as Slurm, torchrun, Lightning or a script for each machine set it.

    >>> announced_rank({"NODE_RANK": "0", "LOCAL_RANK": "3"}), announced_rank({})
    (3, 0)
    """
    if "TORCHELASTIC_RUN_ID" in environ:
        return int(environ.get("RANK", 0))
    return max(int(environ.get(name, 0)) for name in ("SLURM_PROCID", "NODE_RANK", "LOCAL_RANK"))


def is_first_of_job() -> bool:
    """Whether this is, or will be, the first of the processes."""
    return is_first() if _meet() else announced_rank(os.environ) == 0


def from_first(make: Callable[[], Result]) -> Result:
    """What the first process makes, in all of them; or its error."""
    if not _meet():
        return make()
    if is_first():
        own = _attempt(make)
        dist.broadcast_object_list([_portable(own)], src=0, group=_group())
        return _unwrapped(own)
    sent: list[Any] = [None]
    dist.broadcast_object_list(sent, src=0, group=_group())
    return _unwrapped(sent[0])


def gathered(own: Item, to: int = 0) -> list[Item] | None:
    """What all processes have, in their order; None but in one of them."""
    if not _meet():
        return [own]
    everything: list[Any] | None = [None] * count() if rank() == to else None
    dist.gather_object(own, everything, dst=to, group=_group())
    return everything


def owner(place: int) -> int:
    """Which process works on an item of those shared out."""
    return place % count()


def shared_out(work: Callable[[Item], Result], items: Sequence[Item], what: str) -> list[Result]:
    """What some work makes of each item, in their order, in all processes; or the first error.

    Each process works on those that it owns.

    Args:
        work: on one item.
        items: all of them.
        what: is being done, for the progress bar.
    """
    if not _meet():
        return [work(item) for item in progress(items, what, len(items))]
    mine = [k for k in range(len(items)) if owner(k) == rank()]
    own = {k: _attempt(functools.partial(work, items[k])) for k in progress(mine, what, len(mine))}
    everything: list[Any] = [None] * count()
    sent = {k: _portable(outcome) for k, outcome in own.items()}
    dist.all_gather_object(everything, sent, group=_group())
    outcomes = {k: outcome for part in everything for k, outcome in part.items()} | own
    return [_unwrapped(outcomes[k]) for k in range(len(items))]


def sentence_of_loss(error: Exception) -> str | None:
    """What to say of an error that only tells that another process is gone; None of others."""
    lost = isinstance(error, RuntimeError) and any(words in str(error) for words in LOST)
    if not (_meet() and lost):
        return None
    return (
        "another process of this visit ended: what it printed says why, unless it was killed (out "
        f"of memory, or by hand); {AGAIN}"
    )


def said_elsewhere(error: Exception) -> bool | None:
    """Whether another process says why it failed by this error; None of errors of one's own."""
    rank_of_origin = getattr(error, ORIGIN, None)
    return None if rank_of_origin is None else rank_of_origin != rank()


def _attempt(make: Callable[[], Result]) -> Attempt:
    try:
        return make(), None
    except Exception as error:
        error.__dict__[ORIGIN] = rank()
        return None, error


def _portable(outcome: Attempt) -> Attempt:
    """The same for other processes, to which some errors cannot go as they are."""
    result, error = outcome
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        told = RuntimeError(f"{type(error).__name__}: {error}")
        told.__dict__[ORIGIN] = rank()
        return result, told
    return outcome


def _unwrapped(outcome: Attempt) -> Any:  # noqa: ANN401
    result, error = outcome
    if error is not None:
        raise error
    return result


def _meet() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


@functools.cache
def _group() -> dist.ProcessGroup:
    """A group for objects in main memory, whatever the device."""
    group = dist.new_group(backend="gloo", timeout=LONGEST_WAIT)
    assert isinstance(group, dist.ProcessGroup)
    return group
