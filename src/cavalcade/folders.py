"""Folders of ours: written whole or not at all, described by a `meta.json` with checksums."""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cavalcade.disks import refusals_said
from cavalcade.errors import InputError, shown
from cavalcade.meta_fields import (
    LONGEST_NAME,
    WAY_OUT,
    Fields,
    is_plain_name,
    lies_within,
    read_json,
)

FORMAT, META = 1, "meta.json"

log = logging.getLogger(__name__)


def digest_of(identity: Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits that differ where any entry does."""
    text = json.dumps(identity, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@contextmanager
def written_whole(
    place: Path, *, kind: str, resume: str | None = None, again: bool = False
) -> Iterator[Path]:
    """A folder beside `place` to write into, renamed to `place` if the block succeeds.

    After an error it is removed, unless there is a file in its folder `resume`, from which a
    later try goes on; all else that an earlier try left there is removed. Others are kept out by
    `locks.locked`.

    Args:
        place: replaced only if it is a finished folder of the same kind.
        kind: `run`, `truth` or `comparison`.
        resume: name of a folder within it.
        again: go on only where another try with `again` was interrupted.

    Raises:
        InputError: if the folder cannot be written, be it that the disk is full in the end, or
            would replace something else.
    """
    recover(place, kind, again=again)
    partial = _partial(place, again=again)
    try:
        with refusals_said(place.parent):
            partial.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write to {place.parent} ({error}); give another place") from error
    _empty(partial, resume)
    try:
        with refusals_said(place.parent):
            yield partial
    except BaseException:
        if not (resume and (partial / resume).is_dir() and any((partial / resume).iterdir())):
            shutil.rmtree(partial, ignore_errors=True)
        raise
    _put(partial, place)


def recover(place: Path, kind: str, *, again: bool = False) -> bool:
    """Finish or undo what a process that was killed has left half done at a place.

    A folder beside the place that is whole was about to be renamed, and is. A folder that was
    to be replaced by one that is not whole comes back.

    Args:
        place: of the folder.
        kind: what it holds.
        again: look at what was written with `again`; what was written without it is removed,
            and the other way round.

    Returns:
        Whether a whole folder was put into its place.

    Raises:
        InputError: if the place holds something else, or what a newer version made.
    """
    _check_kind(place, kind)
    partial, other, old = (
        _partial(place, again=again),
        _partial(place, again=not again),
        _old(place),
    )
    if other.exists() and not again:
        log.warning(
            "%s: what an interrupted force=true had begun is removed, since force=true was not "
            "given again",
            place,
        )
    shutil.rmtree(other, ignore_errors=True)
    if is_whole(partial, kind):
        _put(partial, place)
        return True
    if old.exists() and not place.exists():
        old.rename(place)
    shutil.rmtree(old, ignore_errors=True)
    return False


def put_whole(source: Path, place: Path, kind: str) -> None:
    """Move a whole folder to a place, unless there is a whole one; it replaces all tries at one.

    What an interrupted try has left stays until then. Others are kept out by `locks.locked`.

    Args:
        source: on the same file system.
        place: of the folder.
        kind: what both hold.

    Raises:
        InputError: if the place holds something else, or what a newer version made.
    """
    _check_kind(place, kind)
    if is_whole(place, kind):
        return
    _put(source, place)
    for again in (False, True):
        shutil.rmtree(_partial(place, again=again), ignore_errors=True)


def _check_kind(place: Path, kind: str) -> None:
    if place.exists() and kind_of(place) != kind:
        raise InputError(f"{place} exists and is no {kind} of cavalcade; give another place")
    found = _said_by(place).get("format")
    # what a newer version made is not replaced
    if isinstance(found, int | float) and found > FORMAT:
        raise _newer(place, found)


def _put(partial: Path, place: Path) -> None:
    """Rename a whole folder to its place. A kill between any two of these lines is mended."""
    old = _old(place)
    if place.exists():
        shutil.rmtree(old, ignore_errors=True)
        place.rename(old)
    partial.rename(place)
    sync(place.parent)
    shutil.rmtree(old, ignore_errors=True)


def _empty(partial: Path, resume: str | None) -> None:
    """Remove all but the folder from which to go on."""
    for path in sorted(partial.rglob("*"), reverse=True):  # what a folder holds, before itself
        if not path.is_dir():
            if resume is None or partial / resume not in path.parents:
                path.unlink()
        elif not any(path.iterdir()):
            path.rmdir()


def is_whole(folder: Path, kind: str) -> bool:
    """Whether a folder is a finished one of a kind, its files as they were written."""
    try:
        read_meta(folder, kind)
    except InputError:
        return False
    return True


def _partial(place: Path, *, again: bool) -> Path:
    return place.with_name(f".{place.name}.{'again' if again else 'partial'}")


def _old(place: Path) -> Path:
    return place.with_name(f".{place.name}.old")


def sync(path: Path) -> None:
    """Have a file, or the names in a folder, on the disk before going on: power may fail."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def kind_of(folder: Path) -> str | None:
    """What a folder of ours holds; None for anything else."""
    found = _said_by(folder).get("kind")
    return found if isinstance(found, str) else None


def _said_by(folder: Path) -> Mapping[str, Any]:
    """What `meta.json` says; nothing if it is none of ours."""
    path = folder / META
    try:
        return Fields(read_json(path), path).content
    except (OSError, InputError):
        return {}


def _newer(folder: Path, found: int | float) -> InputError:
    return InputError(f"{folder} has format {found}, this version reads {FORMAT}; update cavalcade")


def check_name(what: str, name: str, most: int = LONGEST_NAME) -> None:
    """Raise unless a name can be that of a folder, in at most so many bytes.

    Raises:
        InputError: naming the setting.
    """
    if not is_plain_name(name, most):
        raise InputError(
            f"{what} is {name!r}; give a plain name without slashes, of at most {most} bytes"
        )


def short_name(name: str, most: int) -> str:
    """A name of a file in at most so many bytes; of a longer one the beginning, and a digest.

    >>> short_name("a" * 100, 20)
    'aaaaaaa-2816597888e4'
    """
    if len(name.encode()) <= most:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:12]
    beginning = name.encode()[: most - len(digest) - 1].decode(errors="ignore")
    return f"{beginning}-{digest}"


def write_meta(folder: Path, kind: str, content: Mapping[str, Any]) -> None:
    """Write `meta.json`: kind, format, content, and a checksum of every file beside it.

    It is written last, and when all is on the disk: a folder with it is whole.
    """
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != META)
    for path in files:
        path.chmod(0o644)  # safetensors keeps its files to their owner
        sync(path)
    checksums = {p.relative_to(folder).as_posix(): _checksum(p) for p in files}
    meta = {"kind": kind, "format": FORMAT, **content, "files": checksums}
    written = folder / f"{META}.part"
    written.write_text(json.dumps(meta, indent=1), encoding="utf-8")
    sync(written)
    written.replace(folder / META)
    sync(folder)


def read_meta(folder: Path, kind: str) -> dict[str, Any]:
    """Read `meta.json` and check every file that it lists.

    Raises:
        InputError: if it is missing, of another kind or a newer format, or if a file differs
            from its checksum, or is none of the folder.
    """
    path = folder / META
    try:
        meta = read_json(path)
    except FileNotFoundError as error:
        raise InputError(
            f"{folder} is no {kind} folder: it holds no meta.json; name one"
        ) from error
    if not lies_within(folder, path.name):
        raise InputError(f"{path} is a link that leads out of its folder; {WAY_OUT}")
    fields = Fields(meta, path)
    is_kind, found, files = (
        fields.plain_name("kind"),
        fields.whole("format", 1),
        fields.fields("files"),
    )
    if is_kind != kind:
        raise InputError(f"{folder} is a {is_kind} folder, not a {kind} folder; mend the path")
    if found > FORMAT:
        raise _newer(folder, found)
    for name in files.content:
        _check_file(folder, name, files.text(name))
    return dict(fields.content)


def _check_file(folder: Path, name: str, checksum: str) -> None:
    """Raise unless a file that `meta.json` lists is one of the folder, and as it was written."""
    if not lies_within(folder, name):
        raise InputError(
            f"{folder / 'meta.json'} lists {name!r}, which is no file of its folder; {WAY_OUT}"
        )
    path = folder / name
    try:
        whole = path.is_file() and _checksum(path) == checksum
    except OSError as error:
        raise InputError(f"{shown(str(path))} cannot be read ({error}); {WAY_OUT}") from error
    if not whole:
        raise InputError(f"{shown(str(path))} is missing or damaged; {WAY_OUT}")


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
