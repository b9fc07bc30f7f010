"""Which runs are compared: finding them, and refusing what cannot be compared."""

import glob
import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from cavalcade.errors import InputError, listed, shown
from cavalcade.folders import META, kind_of
from cavalcade.runs import VECTORS, Run, load_run

MOST_NAMED = 3  # runs that share a setting
LONGEST = 200  # characters of a setting
ASPECTS = ("method", "data set", "grid", "concepts", "test images")

log = logging.getLogger(__name__)


def find_runs(patterns: Iterable[str | os.PathLike[str]]) -> list[Run]:
    """Load the runs that some folders or globs name; a folder of runs stands for all of them.

    Raises:
        InputError: for a pattern that finds nothing, or a folder that is no finished run.
    """
    paths: dict[Path, None] = {}
    for pattern in patterns:
        found = sorted(Path(p) for p in glob.glob(os.path.expanduser(pattern)))  # noqa: PTH111, PTH207
        found = [p for p in found if p.is_dir()]
        if not found:
            raise InputError(
                f"no run folder at {os.fspath(pattern)!r}; train one, or mend the path"
            )
        for path in found:
            inside = [] if (path / META).exists() else _finished_runs(path)
            paths |= dict.fromkeys(p.resolve() for p in inside or [path])
    return [load_run(path) for path in paths]


def latest_runs(root: Path) -> list[Run]:
    """All runs of the data set and method that were trained last.

    Raises:
        InputError: if there are none.
    """
    finished = _finished_runs(root)
    if not finished:
        raise InputError(
            f"{root} holds no finished run; run train.py first, or name some with runs="
        )
    latest = max(finished, key=lambda path: path.stat().st_mtime)
    return [load_run(path) for path in sorted(finished) if path.parent == latest.parent]


def _finished_runs(folder: Path) -> list[Path]:
    """Run folders at any level below a folder, without those that are being written."""
    found = {
        file.parent
        for level in ("*", "*/*", "*/*/*")
        for name in (META, VECTORS)
        for file in folder.glob(f"{level}/{name}")
    }
    visible = (path for path in found if not _is_hidden(path.relative_to(folder)))
    return sorted(filter(_is_run, visible))


def _is_run(folder: Path) -> bool:
    """Whether it is one, or was one whose `meta.json` is damaged or lost: loading says so."""
    kind = kind_of(folder)
    return kind == "run" or (kind is None and (folder / VECTORS).exists())


def _is_hidden(path: Path) -> bool:
    """Whether it lies in a folder that is being written, or fetched."""
    return any(part.startswith(".") for part in path.parts)


def check_comparable(runs: Sequence[Run]) -> None:
    """Raise unless all runs saw the same test images on one grid for the same concepts.

    Raises:
        InputError: naming two runs and what differs.
    """
    first = runs[0]
    places = {run.path.name: run.path for run in runs}
    for run in runs:
        if places[run.path.name] != run.path:
            raise InputError(
                f"{run.path} and {places[run.path.name]} are one run twice; leave one of them out"
            )
    for run in runs[1:]:
        for what, ours, theirs in zip(ASPECTS, _aspects(first), _aspects(run), strict=True):
            if ours != theirs:
                raise InputError(
                    f"{first.path.name} and {run.path.name} cannot be compared: they differ in "
                    f"their {what} ({_shown(ours)}; {_shown(theirs)}); compare runs that agree in "
                    "it"
                )


def _aspects(run: Run) -> tuple[object, ...]:
    """What compared runs share, as `ASPECTS` calls it."""
    data = run.meta["data"]
    return run.method, data["name"], data["grid"], list(run.labels), data["test"]


def _shown(aspect: object) -> object:
    """Of a fingerprint its beginning."""
    return aspect[:12] if isinstance(aspect, str) else aspect


def say_differences(runs: Sequence[Run]) -> None:
    """Warn of all but the networks in which runs differ, such as the number of mined concepts."""
    names = distinct_names(runs)
    asked = [_settings(run) for run in runs]
    differences = []
    for setting in dict.fromkeys(key for own in asked for key in own):
        having: dict[str, list[str]] = {}
        for name, own in zip(names, asked, strict=True):
            if setting in own:  # a random network has no seed here, and another fit has others
                having.setdefault(str(own[setting]), []).append(name)
        if len(having) > 1:
            found = (f"{_short(value)}: {listed(who, MOST_NAMED)}" for value, who in having.items())
            differences.append(f"{_short(setting)} ({'; '.join(found)})")
    if differences:
        log.warning(
            "the runs differ in %s, so that more than networks is compared; name runs of one "
            "setting with runs=",
            ", and in ".join(differences),
        )


def say_left_out(runs: Sequence[Run]) -> None:
    """Warn of images that could not be read, and were left out of the data of runs."""
    sentence = images_left_out(runs)
    if sentence:
        log.warning(sentence)


def images_left_out(runs: Sequence[Run]) -> str:
    """A sentence on the images that were left out of the data of runs; empty without any."""
    told: dict[str, list[str]] = {}
    for name, run in zip(distinct_names(runs), runs, strict=True):
        if run.left_out:
            what = ", ".join(f"{count} {split}" for split, count in run.left_out.items())
            told.setdefault(what, []).append(name)
    if not told:
        return ""
    counts = "; ".join(f"{what} of {listed(who, MOST_NAMED)}" for what, who in told.items())
    return (
        "images that could not be read were left out of the data (data.on_error=skip), and "
        f"left_out.csv in the run folder names them: {counts}"
    )


def _short(value: str) -> str:
    """A value as a terminal can show it."""
    return shown(value)[:LONGEST]


def _settings(run: Run) -> dict[str, object]:
    """What decided on a run beside its network and test images, as a user would call it."""
    identity = run.meta["identity"]
    method = identity["method"]
    settings = {f"concepts.{key}": value for key, value in method.items()}
    for split in ("train", "val"):
        if split in identity["data"]:
            settings[f"{split} images or their labels"] = identity["data"][split][:12]
    settings |= {f"trainer.{key}": value for key, value in identity["trainer"].items()}
    settings["compile"] = identity["backbone"].get("compiled", False)
    if not run.random:  # whose seed is that of its weights
        settings["seed"] = identity["seed"]
    if method.get("fit") == "stream":  # which one pass does not depend on
        settings["batch_size"] = identity["batch_size"]
    settings["the version of cavalcade"] = identity["cavalcade"]
    return settings


def check_nulls(runs: Sequence[Run]) -> None:
    """Raise if two random networks have equal weights: they are one network, and no null.

    Raises:
        InputError: naming them.
    """
    random = [run for run in runs if run.random]
    for first in random:
        equal = [run.path.name for run in random if run.weights == first.weights]
        if len(equal) > 1:
            raise InputError(
                f"{', '.join(equal)} have equal random weights: they are one network, and no null "
                "of each other, however they were probed; name one of them with runs=, or train "
                "one with another seed="
            )


def random_twins(run: Run, runs: Sequence[Run]) -> list[Run]:
    """The random networks of the same architecture and layers as a trained one."""
    if run.random:
        return []
    return [
        other
        for other in runs
        if other.random and other.architecture == run.architecture and other.layers == run.layers
    ]


def distinct_names(runs: Sequence[Run]) -> tuple[str, ...]:
    """Labels of the runs, with their digest where two runs share a label."""
    labels = [run.label for run in runs]
    return tuple(run.path.name if labels.count(run.label) > 1 else run.label for run in runs)
