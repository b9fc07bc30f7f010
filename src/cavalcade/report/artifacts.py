"""Folders of ours as artifacts of Weights & Biases: logged, and fetched from there.

A run's artifact holds `<method>/<name>/…` and `truth/…`, as they lie in a data folder.
"""

import logging
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import wandb
from lightning.pytorch.loggers import Logger, WandbLogger

from cavalcade.errors import InputError, one_line
from cavalcade.folders import META, check_name, is_whole, put_whole, read_meta
from cavalcade.locks import locked
from cavalcade.meta_fields import LONGEST_FOLDER
from cavalcade.report.tracking import safe_name

PREFIX = "wandb:"
MAX_LENGTH = 128  # characters of an artifact's name
CONCEPTS = "-concepts"  # how the name of that of a run's concepts ends

log = logging.getLogger(__name__)


def log_run_artifacts(logger: Logger | None, place: Path, meta: Mapping[str, Any]) -> None:
    """Log a run folder with its truth, and its concepts alone.

    Files are referred to where they lie, so that none is copied: they must stay there until
    they are uploaded.

    Args:
        logger: of the job.
        place: the run folder.
        meta: its `meta.json`.
    """
    if not isinstance(logger, WandbLogger):
        return
    home = place.parents[1]
    facts = {
        "label": meta["label"],
        "digest": meta["digest"],
        "data_folder": home.name,
        "method": meta["method"],
        "run": place.name,
        "test": meta["data"]["test"],
        "layers": [layer["name"] for layer in meta["layers"]],
        "random": meta["random"],
    }
    aliases = ["latest", safe_name(home.name, MAX_LENGTH)]
    name, truth = _name_of(place), home / "truth"
    run = wandb.Artifact(name, type="run", metadata=facts)
    for folder, listed in ((place, meta["files"]), (truth, read_meta(truth, "truth")["files"])):
        _add(run, folder, [META, *listed], folder.relative_to(home).as_posix())
    concepts = wandb.Artifact(f"{name}{CONCEPTS}", type="concepts", metadata=facts)
    _add(concepts, place, ["concepts.safetensors", META])
    for artifact in (run, concepts):
        logger.experiment.log_artifact(artifact, aliases=aliases)


def log_comparison_artifact(logger: Logger | None, place: Path) -> None:
    """Log a comparison folder: its tables, figures and report, all as it lies there."""
    if not isinstance(logger, WandbLogger):
        return
    meta = read_meta(place, "comparison")
    facts = {key: meta[key] for key in ("networks", "runs", "similarity", "named_by")}
    name = safe_name(f"comparison-{place.name}", MAX_LENGTH)
    artifact = wandb.Artifact(name, type="comparison", metadata=facts)
    _add(artifact, place, [META, *meta["files"]])
    logger.experiment.log_artifact(artifact, aliases=["latest"])


def _add(artifact: wandb.Artifact, folder: Path, names: Iterable[str], under: str = "") -> None:
    for name in names:
        artifact.add_file(
            str((folder / name).resolve()),
            name=(PurePosixPath(under) / name).as_posix(),
            policy="immutable",  # else each file is copied first
            skip_cache=True,
        )


def _name_of(run: Path) -> str:
    """What the artifact of a run folder is called."""
    return safe_name(run.name, MAX_LENGTH - len(CONCEPTS))


def use_runs(logger: Logger | None, names: Sequence[str]) -> None:
    """Say which runs' artifacts a job has read; a run that is none is said, and left out.

    Nothing offline, where W&B cannot look them up.

    Args:
        logger: of the job.
        names: of the artifacts, with version or alias.
    """
    if not isinstance(logger, WandbLogger) or logger.experiment.offline:
        return
    for name in names:
        try:
            logger.experiment.use_artifact(name, type="run")
        except (wandb.Error, ValueError) as error:
            log.info("W&B draws no line from %s, which is no artifact there (%s)", name, error)


def artifact_names(runs: Iterable[Path], patterns: Iterable[str]) -> list[str]:
    """The artifacts of some run folders: those fetched, else the newest version.

    Args:
        runs: the folders.
        patterns: what they were asked for by; see `with_fetched`.
    """
    references = [each.removeprefix(PREFIX) for each in patterns if each.startswith(PREFIX)]
    fetched = {ref.rpartition("/")[2].partition(":")[0]: ref for ref in references}
    names = [_name_of(run) for run in runs]
    return [fetched.get(name, f"{name}:latest") for name in names]


def with_fetched(patterns: Iterable[str], root: Path) -> list[str]:
    """Patterns of runs, with the folder of each artifact `wandb:entity/project/name:version`.

    Args:
        patterns: folders and globs, which stay, and artifacts.
        root: see `fetch_run`.
    """
    return [
        str(fetch_run(each.removeprefix(PREFIX), root)) if each.startswith(PREFIX) else each
        for each in patterns
    ]


def fetch_run(reference: str, root: Path) -> Path:
    """Fetch a run's artifact, and the truth of its data set, into a folder of runs.

    What is there and whole is not fetched again. A visit that is making the run is waited for;
    one that was interrupted is replaced. Nothing that an artifact holds is executed.

    Args:
        reference: `entity/project/name:version`; the entity may be left out.
        root: where run folders lie.

    Returns:
        The run folder.

    Raises:
        InputError: if there is no such artifact, W&B cannot be reached, or the artifact is no
            whole run of ours.
    """
    artifact = _artifact(reference)
    try:
        folders = [str(artifact.metadata[key]) for key in ("data_folder", "method", "run")]
    except (KeyError, TypeError) as error:
        raise InputError(
            f"the artifact {reference} does not say where its run lies ({error}); give one that "
            "train.py has logged"
        ) from error
    for name in folders:
        check_name(f"a folder of the artifact {reference}", name, LONGEST_FOLDER)
    data, method, name = folders
    home, inside = root / data, f"{method}/{name}"
    if is_whole(home / inside, "run") and is_whole(home / "truth", "truth"):
        return home / inside
    _check_files(reference, artifact.manifest.entries, inside)
    log.info("fetching %s", reference)
    with _scratch(root) as scratch:
        try:
            artifact.download(root=str(scratch), skip_cache=True)
        except (wandb.Error, OSError, ValueError) as error:
            raise InputError(
                f"the artifact {reference} cannot be fetched ({one_line(error)}); try again"
            ) from error
        _check_content(reference, scratch, inside)
        with locked(home / "truth"):
            _check_truth(reference, home / "truth", scratch / "truth")
            put_whole(scratch / "truth", home / "truth", "truth")
        with locked(home / inside):
            put_whole(scratch / inside, home / inside, "run")
    return home / inside


def _artifact(reference: str) -> Any:  # noqa: ANN401
    """What W&B knows of an artifact of type `run`."""
    try:
        artifact = wandb.Api().artifact(reference)
    except (wandb.Error, OSError, ValueError) as error:
        raise InputError(
            f"W&B does not give the artifact {reference} ({one_line(error)}); log in with wandb "
            "login, and name it as wandb:entity/project/name:version"
        ) from error
    if artifact.type != "run":
        raise InputError(
            f"the artifact {reference} is of type {artifact.type}, not of type run; give one of a "
            "run folder"
        )
    return artifact


def _check_files(reference: str, entries: Mapping[str, Any], inside: str) -> None:
    """Raise for a file that would lie elsewhere, or comes from elsewhere than W&B's storage."""
    for path, entry in entries.items():
        parts = PurePosixPath(path).parts
        within = path.startswith((f"{inside}/", "truth/"))
        if not within or ".." in parts or "\\" in path or entry.ref is not None:
            raise InputError(
                f"the artifact {reference} holds {path!r}, which is no file of a run folder, so "
                "nothing was fetched; give one that train.py has logged"
            )


def _check_content(reference: str, scratch: Path, inside: str) -> None:
    """Raise unless what was fetched is one whole run with the truth of its test images."""
    try:
        run, truth = read_meta(scratch / inside, "run"), read_meta(scratch / "truth", "truth")
        matches = truth["fingerprint"] == run["data"]["test"]
    except (InputError, KeyError, TypeError) as error:
        raise InputError(
            f"the artifact {reference} holds no whole run ({one_line(error)}); log it again"
        ) from error
    listed = {inside: run["files"], "truth": truth["files"]}
    expected = {f"{f}/{name}" for f, names in listed.items() for name in (META, *names)}
    found = {p.relative_to(scratch).as_posix() for p in scratch.rglob("*") if not p.is_dir()}
    linked = any(path.is_symlink() for path in scratch.rglob("*"))
    if linked or found != expected or not matches:
        raise InputError(
            f"the artifact {reference} holds other files than its meta.json lists, or another "
            "truth; log it again"
        )


def _check_truth(reference: str, ours: Path, theirs: Path) -> None:
    """Raise if the folder is of other test images already."""
    prints = [read_meta(f, "truth")["fingerprint"] for f in (ours, theirs) if is_whole(f, "truth")]
    if len(set(prints)) > 1:
        raise InputError(
            f"the artifact {reference} is of other test images than {ours.parent}, though it names "
            "this folder; give another root="
        )


@contextmanager
def _scratch(root: Path) -> Iterator[Path]:
    """A folder in `root` of nobody else's, that is gone afterwards."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".fetched-", dir=root))
    except OSError as error:
        raise InputError(f"cannot write to {root} ({error}); give another root=") from error
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
