"""What a visit does when it is told to stop: by a signal, or by Slurm, which runs it again."""

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

from cavalcade import processes

log = logging.getLogger(__name__)


@contextmanager
def told_to_stop() -> Iterator[None]:
    """End at SIGTERM as after an error, and at Slurm's SIGUSR1 have it run the job again.

    Lightning alone would do so in its passes only, and write a checkpoint within an epoch: a
    fit that went on from there would not see the batches that it had not seen. It leaves
    signals alone that somebody handles, and so does this: submitit has its own way.
    """
    home = os.getpid()

    def end(number: int, _: FrameType | None) -> None:
        if os.getpid() == home:  # processes that load images inherit this
            sys.exit(128 + number)

    def requeue(_: int, __: FrameType | None) -> None:
        if os.getpid() == home:
            _requeue()

    handlers: dict[signal.Signals, Callable[[int, FrameType | None], None]]
    handlers = {signal.SIGTERM: end}
    if SLURMEnvironment.detect():
        handlers[signal.SIGUSR1] = requeue
    free = [number for number in handlers if signal.getsignal(number) is signal.SIG_DFL]
    if threading.current_thread() is not threading.main_thread():  # where none can be set
        free = []
    for number in free:
        signal.signal(number, handlers[number])
    try:
        with _interrupted_as_everywhere():
            yield
    finally:
        for number in free:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def _interrupted_as_everywhere() -> Iterator[None]:
    """Have Ctrl-C raise KeyboardInterrupt within Lightning's passes too, and after them again.

    Lightning ends the process instead, and has it ignore SIGINT from then on, so that a program
    which goes on with other work could not be interrupted any more.
    """
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from error
        raise
    finally:
        if signal.getsignal(signal.SIGINT) is not before:  # which Lightning sets in the main thread
            signal.signal(signal.SIGINT, before)


def _requeue() -> None:
    """Ask Slurm to queue this job again; it then ends the processes of the job."""
    if not processes.is_first_of_job():
        return
    job = os.environ["SLURM_JOB_ID"]
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    try:
        subprocess.run(["scontrol", "requeue", job], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        log.warning("Slurm job %s cannot be queued again (%s); submit it again", job, error)
    else:
        log.info("Slurm job %s is queued again, and will go on from its last whole epoch", job)
