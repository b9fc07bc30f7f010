"""One process at a time at a place, where others wait; and files that any number may hold."""

import errno
import logging
import os
import socket
import time
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from cavalcade.errors import InputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

ASKED = 5  # times, since another program may ask at the same moment
NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)

log = logging.getLogger(__name__)


@contextmanager
def locked(place: Path, *, wait: bool = True) -> Iterator[bool]:
    """Wait until no other process is at work on a place, and have others wait for this one.

    The lock is on a file beside the place. The kernel frees it when its holder ends, however
    that is; the file of a holder that was killed stays for the next.

    Args:
        place: need not exist.
        wait: if False, go on at once.

    Yields:
        Whether others are kept out: False while another process is at work there, unless one
        waits for it, and on a file system without locks.

    Raises:
        InputError: if there can be no file beside the place.
    """
    path = place.with_name(f".{place.name}.lock")
    # a file that merely exists, the library's substitute for locks, would outlive a killed holder
    lock = FileLock(path, fallback_to_soft=False)
    if not _acquired(lock, place, wait=wait):
        yield False
        return
    try:
        with suppress(OSError):  # for others to read, on a full disk nothing
            path.write_text(f"{os.getpid()} on {socket.gethostname()}", encoding="utf-8")
        yield True
    finally:
        path.unlink(missing_ok=True)  # still held: who waits for it sees this, and makes another
        lock.release()


def _acquired(lock: FileLock, place: Path, *, wait: bool) -> bool:
    """Wait for the lock, if asked to; False if it cannot be had."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if not wait:
                return False
            log.warning(
                "another process (%s) is at work on %s; waiting for it", _holder(lock), place
            )
            lock.acquire()
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise InputError(
                f"cannot write to {place.parent} ({error}); give another place"
            ) from error
        if wait:
            log.warning("%s cannot be locked (%s): let no other program make it too", place, error)
        return False
    return True


def _holder(lock: FileLock) -> str:
    """Process and machine, as far as its holder has written them down by now."""
    try:
        return Path(lock.lock_file).read_text(encoding="utf-8") or "just started"
    except OSError:
        return "just ended"


def hold(path: Path, holder: object) -> None:
    """Have a file count as held as long as an object lives.

    Any number of objects hold a file, in any processes; those that are forked hold it too, and
    a pickled copy of the object does not. The kernel ends it with the process, however it ends.

    Raises:
        OSError: if the file cannot be opened, or goes at this moment.
    """
    number = os.open(path, os.O_RDONLY)
    weakref.finalize(holder, os.close, number)
    with suppress(OSError):  # without locks there is nothing to tell others
        _flock(number, exclusive=False)
    if not os.fstat(number).st_nlink:  # who removed it had the lock before
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))


@contextmanager
def nobody_holds(path: Path) -> Iterator[bool]:
    """Whether no object holds a file, and if so, have others wait that want to.

    Yields:
        True where there is no such file; False where it cannot be known, for lack of locks.
    """
    with ExitStack() as opened:
        yield _alone(path, opened)


def _alone(path: Path, opened: ExitStack) -> bool:
    """Lock a file that nobody holds for as long as it is opened."""
    try:
        file = opened.enter_context(_opened(path))
        for _ in range(ASKED):
            try:
                _flock(file.fileno(), exclusive=True)
            except BlockingIOError:  # held, or another program asks at this moment
                time.sleep(0.01)
            else:
                return True
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("r+b")  # NFS locks a file for its writers alone
    except PermissionError:
        return path.open("rb")


def is_held(path: Path) -> bool:
    """Whether any object holds a file; True too where it cannot be known, for lack of locks."""
    with nobody_holds(path) as alone:
        return not alone


def _flock(number: int, *, exclusive: bool) -> None:
    if fcntl is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB if exclusive else fcntl.LOCK_SH)
