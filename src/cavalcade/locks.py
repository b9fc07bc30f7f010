"""One process at a time at a place: others wait, and go on where it was killed."""

import errno
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from cavalcade.errors import InputError

NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)

log = logging.getLogger(__name__)


@contextmanager
def locked(place: Path) -> Iterator[None]:
    """Wait until no other process is at work on a place, and have others wait for this one.

    The lock is on a file beside the place. The kernel frees it when its holder ends, however
    that is; the file of a holder that was killed stays for the next.

    Raises:
        InputError: if there can be no file beside the place.
    """
    path = place.with_name(f".{place.name}.lock")
    # a file that merely exists, the library's substitute for locks, would outlive a killed holder
    lock = FileLock(path, fallback_to_soft=False)
    if not _acquired(lock, place):
        yield
        return
    try:
        path.write_text(f"{os.getpid()} on {socket.gethostname()}", encoding="utf-8")
        yield
    finally:
        path.unlink(missing_ok=True)  # still held: who waits for it sees this, and makes another
        lock.release()


def _acquired(lock: FileLock, place: Path) -> bool:
    """Wait for the lock; False if the file system has none."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.warning(
                "another process (%s) is at work on %s; waiting for it", _holder(lock), place
            )
            lock.acquire()
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise InputError(
                f"cannot write to {place.parent} ({error}); give another place"
            ) from error
        log.warning("%s cannot be locked (%s): let no other program make it too", place, error)
        return False
    return True


def _holder(lock: FileLock) -> str:
    """Process and machine, as far as its holder has written them down by now."""
    try:
        return Path(lock.lock_file).read_text(encoding="utf-8") or "just started"
    except OSError:
        return "just ended"
