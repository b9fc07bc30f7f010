"""Run folders as artifacts. There is no W&B server here: `Store` stands in for `wandb.Api`."""

import inspect
import json
import logging
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import wandb
from lightning.pytorch.loggers import WandbLogger
from wandb.apis.public import Api

from cavalcade.comparing.comparable import find_runs
from cavalcade.errors import InputError
from cavalcade.locks import locked
from cavalcade.report import artifacts
from cavalcade.report.artifacts import artifact_names, fetch_run, use_runs, with_fetched
from cavalcade.runs import load_run
from faults import Child, Kill, contents, no_child_is_left  # noqa: F401
from tiny import tiny_visit

KEPT_NOTHING = "refused; nothing is kept"
OUT = "a path out of the folder, in an artifact or in what it says of itself"
REFERENCE = "team/cavalcade/tiny:v0"


class StoredArtifact:
    """What `wandb.Artifact` offers of an artifact on a server."""

    def __init__(self, files, metadata, kind="run"):
        self.files, self.metadata, self.type, self.downloads = files, metadata, kind, 0
        self.broken = None

    @property
    def manifest(self):
        entries = {name: SimpleNamespace(ref=None) for name in self.files}
        return SimpleNamespace(entries=entries)

    def download(
        self,
        root=None,
        allow_missing_references=False,
        skip_cache=None,  # noqa: ARG002
        path_prefix=None,
        multipart=None,
    ):
        assert (allow_missing_references, path_prefix, multipart) == (False, None, None)
        self.downloads += 1
        for number, (name, source) in enumerate(self.files.items()):
            if number == 3 and self.broken:
                raise self.broken
            target = Path(root) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        return root


class Store:
    """What `wandb.Api` offers."""

    def __init__(self, **held):
        self.held = held

    def artifact(self, name, type=None):  # noqa: ARG002
        if name not in self.held:
            raise wandb.errors.CommError(f"artifact {name!r}\nnot found")
        return self.held[name]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return load_run(tiny_visit(tmp_path_factory.mktemp("runs")))


class Recorder(WandbLogger):
    """Keeps artifacts, as an online run that has no server."""

    def __init__(self, **settings):
        super().__init__(project="p")
        self.logged, self.used = [], []
        self.run = SimpleNamespace(
            offline=settings.get("offline", False),
            log_artifact=lambda artifact, aliases: self.logged.append((artifact, aliases)),
            use_artifact=self.use,
        )

    def use(self, name, type):
        assert type == "run"
        if name.startswith("unknown"):
            raise wandb.errors.CommError("not found")
        self.used.append(name)

    @property
    def experiment(self):
        return self.run


@pytest.fixture
def stored(run, monkeypatch):
    """The run's own artifact, as it would lie on a server."""
    logger = Recorder()
    artifacts.log_run_artifacts(logger, run.path, run.meta)
    logged = next(artifact for artifact, _ in logger.logged if artifact.type == "run")
    files = {name: Path(entry.local_path) for name, entry in logged.manifest.entries.items()}
    artifact = StoredArtifact(files, dict(logged.metadata))
    monkeypatch.setattr(wandb, "Api", lambda: Store(**{REFERENCE: artifact}))
    return artifact


def test_the_stand_in_has_the_signatures_of_wandb():
    for ours, theirs in (
        (StoredArtifact.download, wandb.Artifact.download),
        (Store.artifact, Api.artifact),
    ):
        names = [list(inspect.signature(function).parameters) for function in (ours, theirs)]
        assert names[0] == names[1]
    assert isinstance(wandb.Artifact.manifest, property)
    assert isinstance(wandb.Artifact.metadata, property)
    assert "ref" in wandb.sdk.artifacts.artifact_manifest_entry.ArtifactManifestEntry.__slots__ or (
        "ref"
        in inspect.signature(
            wandb.sdk.artifacts.artifact_manifest_entry.ArtifactManifestEntry
        ).parameters
    )


def test_nothing_is_copied_on_the_way(run, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path))
    logger = Recorder()
    artifacts.log_run_artifacts(logger, run.path, run.meta)
    kinds = {artifact.type: aliases for artifact, aliases in logger.logged}
    assert kinds == {name: ["latest", run.path.parents[1].name] for name in ("run", "concepts")}
    for artifact, _ in logger.logged:
        for name, entry in artifact.manifest.entries.items():
            assert Path(entry.local_path).is_relative_to(run.path.parents[1].resolve()), name
            assert entry.skip_cache
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_run_is_fetched_once_and_equals_the_original(run, stored, tmp_path):
    place = fetch_run(REFERENCE, tmp_path / "runs")
    home = run.path.parents[1]
    assert place == tmp_path / "runs" / home.name / "probes" / run.path.name
    for part in (run.path, home / "truth"):
        for path in (p for p in part.rglob("*") if p.is_file()):
            fetched = tmp_path / "runs" / home.name / path.relative_to(home)
            assert fetched.read_bytes() == path.read_bytes()
    assert load_run(place).score_matrix().equals(run.score_matrix())
    assert fetch_run(REFERENCE, tmp_path / "runs") == place
    assert stored.downloads == 1
    (place / "scores.csv").write_text("damaged")
    assert load_run(fetch_run(REFERENCE, tmp_path / "runs")).path == place
    assert stored.downloads == 2
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {home.name}
    assert {path.name for path in place.parent.iterdir()} == {place.name}


@pytest.mark.usefixtures("stored")
def test_compare_takes_artifacts_and_folders(run, tmp_path):
    patterns = [f"wandb:{REFERENCE}", str(run.path)]
    first, second = find_runs(with_fetched(patterns, tmp_path))
    assert first.path.is_relative_to(tmp_path)
    assert second.path == run.path
    names = artifact_names(
        [first.path, Path("x/other-1")], [f"wandb:team/p/{first.path.name}:v3", "x"]
    )
    assert names == [f"team/p/{first.path.name}:v3", "other-1:latest"]


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("../../escaped.txt", "meta.json"),
        ("/tmp/escaped.txt", "meta.json"),
        ("probes/other/meta.json", "meta.json"),
        ("truth/../../../x", "meta.json"),
    ],
)
def test_files_of_an_artifact_cannot_escape(run, stored, tmp_path, path, source, tried):
    stored.files[path] = run.path / source
    with pytest.raises(InputError, match="no file of a run folder, so nothing was fetched"):
        fetch_run(REFERENCE, tmp_path / "runs")
    assert not list(tmp_path.iterdir())
    tried("folders", OUT, KEPT_NOTHING)


@pytest.mark.parametrize("key", ["data_folder", "method", "run"])
@pytest.mark.parametrize("value", ["..", "../x", "/tmp/x", "", "x\0y", "x\ny", "x" * 300])
def test_metadata_of_an_artifact_cannot_escape(stored, tmp_path, key, value, tried):
    stored.metadata[key] = value
    with pytest.raises(InputError, match="a folder of the artifact"):
        fetch_run(REFERENCE, tmp_path / "runs")
    assert not list(tmp_path.iterdir())
    tried("folders", OUT, KEPT_NOTHING)


def test_references_to_elsewhere_are_refused(stored, tmp_path, monkeypatch, tried):
    entries = dict(stored.manifest.entries)
    entries["truth/more"] = SimpleNamespace(ref="file:///etc/passwd")
    monkeypatch.setattr(StoredArtifact, "manifest", SimpleNamespace(entries=entries))
    with pytest.raises(InputError, match="holds 'truth/more', which is no file of a run"):
        fetch_run(REFERENCE, tmp_path / "runs")
    assert not list(tmp_path.iterdir())
    tried("folders", OUT, KEPT_NOTHING)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda a, _: setattr(a, "broken", wandb.errors.CommError("no\nnetwork")), "no network"),
        (lambda a, _: setattr(a, "type", "concepts"), "is of type concepts, not of type run"),
        (lambda a, _: a.metadata.clear(), "does not say where its run lies"),
        (lambda a, x: a.files.update({damaged(a, "scores.csv"): x}), "holds no whole run"),
        (lambda a, x: a.files.update({"truth/extra.py": x}), "other files than its meta.json"),
    ],
)
def test_what_cannot_be_fetched_is_a_sentence_and_leaves_nothing(
    stored, tmp_path, spoil, message, tried
):
    other = tmp_path / "other"
    other.write_text("x")
    spoil(stored, other)
    with pytest.raises(InputError, match=message) as caught:
        fetch_run(REFERENCE, tmp_path / "runs")
    assert "\n" not in str(caught.value)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path != other]
    tried("folders", "an incomplete artifact", KEPT_NOTHING)


def damaged(artifact, name):
    return next(path for path in artifact.files if path.endswith(name))


@pytest.mark.usefixtures("stored")
def test_an_unknown_artifact_and_no_login_are_sentences(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"does not give the artifact a/b/c:v1 .*not found"):
        fetch_run("a/b/c:v1", tmp_path)

    def without_login():
        raise wandb.errors.UsageError("No API key configured.")

    monkeypatch.setattr(wandb, "Api", without_login)
    with pytest.raises(InputError, match=r"No API key configured.*log in with wandb login"):
        fetch_run(REFERENCE, tmp_path)


@pytest.mark.usefixtures("stored")
def test_another_truth_is_not_mixed_in(run, tmp_path, tried):
    home = tmp_path / run.path.parents[1].name
    shutil.copytree(run.path.parents[1] / "truth", home / "truth")
    meta = json.loads((home / "truth/meta.json").read_text())
    (home / "truth/meta.json").write_text(json.dumps(meta | {"fingerprint": "another"}))
    with pytest.raises(InputError, match="is of other test images than"):
        fetch_run(REFERENCE, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [home.name]
    assert [path.name for path in home.iterdir()] == ["truth"]
    tried("folders", "an artifact with another truth than is there", KEPT_NOTHING)


LEFT = "checkpoints/last.ckpt"  # of a visit that was killed


def left_behind(root, run, name):
    """What a killed visit leaves beside its place."""
    place = root / run.path.relative_to(run.path.parents[2])
    checkpoint = place.with_name(f".{place.name}.{name}") / LEFT
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_text("half a fit")
    return place, checkpoint


@pytest.mark.usefixtures("stored")
@pytest.mark.parametrize("name", ["partial", "again"])
def test_an_interrupted_visit_is_replaced_by_the_whole_run(run, tmp_path, name):
    place, _ = left_behind(tmp_path, run, name)
    assert fetch_run(REFERENCE, tmp_path) == place
    assert contents(place) == contents(run.path)
    assert [path.name for path in place.parent.iterdir()] == [place.name]


@pytest.mark.parametrize("name", ["partial", "again"])
@pytest.mark.parametrize("nth", [1, 2])
def test_an_interrupted_visit_outlives_a_fetch_that_is_killed(run, stored, tmp_path, name, nth):
    """Before the truth is in its place, and before the run is."""
    place, checkpoint = left_behind(tmp_path / "runs", run, name)
    kill = Kill(Path, "rename", nth)
    child = Child(lambda: fetch_run(REFERENCE, tmp_path / "runs"), tmp_path / "log", kill)
    assert child.wait() == -9, child.said
    assert checkpoint.read_text() == "half a fit"
    assert [path.name for path in checkpoint.parents[1].rglob("*")] == ["checkpoints", "last.ckpt"]
    assert not place.exists()
    assert fetch_run(REFERENCE, tmp_path / "runs") == place
    assert contents(place) == contents(run.path)
    assert stored.downloads == 1  # one more, in the child


@pytest.mark.usefixtures("stored")
@pytest.mark.parametrize("part", ["run", "truth"])
def test_a_visit_at_work_is_waited_for(run, tmp_path, part):
    root, home = tmp_path / "runs", run.path.parents[1]
    place, checkpoint = left_behind(root, run, "partial")
    held = place if part == "run" else root / home.name / "truth"
    with locked(held):
        child = Child(lambda: fetch_run(REFERENCE, root), tmp_path / "log")
        child.wait_to_say(f"at work on {held}; waiting for it")
        assert checkpoint.exists()
        original = home / held.relative_to(root / home.name)
        shutil.copytree(original, held)  # with the times of its files
        os.utime(held, (1, 1))
    assert child.wait() == 0, child.said
    assert held.stat().st_mtime == 1  # what the visit made is not replaced
    assert contents(place) == contents(run.path)


@pytest.mark.usefixtures("stored")
def test_a_folder_of_something_else_is_not_replaced(run, tmp_path):
    place, checkpoint = left_behind(tmp_path, run, "partial")
    place.mkdir()
    (place / "notes.txt").touch()
    with pytest.raises(InputError, match="exists and is no run of cavalcade"):
        fetch_run(REFERENCE, tmp_path)
    assert checkpoint.exists()
    assert (place / "notes.txt").exists()


@pytest.mark.usefixtures("stored")
def test_another_machine_may_have_the_same_process_id(run, tmp_path):
    theirs = tmp_path / f".fetched-{os.getpid()}" / "half"
    theirs.mkdir(parents=True)
    place = fetch_run(REFERENCE, tmp_path)
    assert theirs.exists()
    assert {path.name for path in tmp_path.iterdir()} == {theirs.parent.name, place.parts[-3]}
    assert load_run(place).meta == run.meta


@pytest.mark.usefixtures("stored")
def test_a_root_that_cannot_be_written_is_a_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot write to .*file.*; give another root="):
        fetch_run(REFERENCE, tmp_path / "file")


def test_lineage_is_drawn_online_only(caplog):
    logger = Recorder()
    with caplog.at_level(logging.INFO):
        use_runs(logger, ["net-1:latest", "unknown:latest"])
    assert logger.used == ["net-1:latest"]
    assert "no line from unknown:latest" in caplog.text
    offline = Recorder(offline=True)
    use_runs(offline, ["net-1:latest"])
    assert not offline.used
