"""Passwords given in every place where one can be are in no file that is written."""

import os
import subprocess
import sys
import zlib
from contextlib import suppress
from pathlib import Path

import pytest

from hardening import HIDDEN
from test_cli import ROOT, SMALL

KEY = "0123456789abcdef" * 2 + "5ec2e7aa"  # as W&B's are
SECRETS = {  # by where they are
    "the environment": KEY,
    "a hub's token": "hf_5ecretOfTheHub",
    "a cloud's key": "aws5ecretOfTheCloud",
    "netrc": "5ecretOfNetrc",
    "a URL's password": "5ecretOfTheUrl",
    "a URL's signature": "5ecretSignature",
    "a token": "5ecretToken",
    "a header": "5ecretHeader",
}
NETRC = ".netrc"  # the user's own
NOTES = "https://me:5ecretOfTheUrl@host/x?sig=5ecretSignature&n=1"


@pytest.fixture
def home(tmp_path):
    """A home with a password in it, which is none of what is written; beside the temporary files.

    Both lie where leaks are looked for.
    """
    folder = tmp_path / "home"
    folder.mkdir()
    (tmp_path / "temporary").mkdir()
    text = f"machine api.wandb.ai login user password {SECRETS['netrc']}\n"
    (folder / NETRC).write_text(text)
    (folder / NETRC).chmod(0o600)
    return folder


def program(folder, home, name, *arguments):
    """What a program prints, and its exit code."""
    secret = {
        "WANDB_API_KEY": SECRETS["the environment"],
        "HF_TOKEN": SECRETS["a hub's token"],
        "AWS_SECRET_ACCESS_KEY": SECRETS["a cloud's key"],
        "HOME": str(home),
        "TMPDIR": str(home.with_name("temporary")),
        "WANDB_MODE": "offline",
    }
    done = subprocess.run(
        [sys.executable, ROOT / name, *arguments],
        cwd=folder,
        env=os.environ | secret,
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    return done.stdout + done.stderr, done.returncode


def leaks(folder: Path, *texts: str) -> list[tuple[str, str]]:
    """Where a secret is written; compressed streams of a file are looked into."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != NETRC]
    contents = {str(path): path.read_bytes() for path in files}
    contents |= {f"text {k}": text.encode() for k, text in enumerate(texts)}
    return [
        (where, name)
        for where, content in contents.items()
        for name, secret in SECRETS.items()
        if any(secret.encode() in part for part in (content, *_inflated(content)))
    ]


def _inflated(content: bytes) -> list[bytes]:
    found, place = [], content.find(b"\x78\x9c")
    while place >= 0 and len(found) < 50:
        with suppress(zlib.error):
            found.append(zlib.decompressobj().decompress(content[place:], 10**7))
        place = content.find(b"\x78\x9c", place + 1)
    return found


GIVEN = (
    f'logger.notes="{NOTES}"',
    f"+logger.settings.api_key={SECRETS['the environment']}",
    f"+logger.config.token={SECRETS['a token']}",
    f'+logger.config.headers=["Authorization: Bearer {SECRETS["a header"]}"]',
)


@pytest.mark.slow
def test_no_secret_is_in_any_file_that_is_written(tmp_path, home, tried):
    said = []
    for name, arguments in (("train.py", SMALL), ("compare.py", ("agreement=[]", "pictures=1"))):
        words, code = program(tmp_path, home, name, *arguments, *GIVEN)
        assert code == 0, words[-3000:]
        said.append(words)
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    for kind in ("runs/*/probes/*/config.yaml", "comparisons/*/report/index.html",
                 "wandb/offline-run-*/*.wandb", "outputs/*/*/*.log"):  # fmt: skip
        assert list(tmp_path.glob(kind)), kind
    assert leaks(tmp_path, *said) == []
    tried("secrets", "a secret in one of four settings, three variables or .netrc",
          "in no file that was written, nor printed", len(SECRETS))  # fmt: skip
    assert len(written) > 30


@pytest.mark.slow
def test_a_sentence_of_a_failure_shows_no_secret(tmp_path, home, tried):
    """It is printed, and kept in a log and in the outcome of the job."""
    words, code = program(tmp_path, home, "train.py", *SMALL, f'backbone.weights="{NOTES}"',
                          "logger=none")  # fmt: skip
    assert code == 1
    assert "backbone.weights is 'https:/host/x?sig=removed&n=1'" in words
    assert leaks(tmp_path, words) == []
    tried("secrets", "a password in a setting that is refused", HIDDEN)


REFUSED = {  # by what is wrong with the command
    "a key of train.py": ("train.py", "+mistyped=1", *GIVEN),
    "a key of compare.py": ("compare.py", "+mistyped=1", *GIVEN),
    "a file without a sweep": ("train.py", "backbone.name=@names.txt", "backbone=timm", *GIVEN),
    "no end": ("train.py", f"data.root=[{NOTES}"),
    "a key of a sweep of compare.py": ("compare.py", "-m", "repairings=2,3", "+no=1", *GIVEN),
    "runs of a sweep of compare.py": ("compare.py", "-m", "pictures=0,1", "root=x", *GIVEN),
    "a key of a sweep": ("train.py", "-m", "seed=0,1", "+mistyped=1", "estimate=false", *GIVEN),
}


@pytest.mark.parametrize(
    "what", [pytest.param(w, marks=pytest.mark.slow) if k else w for k, w in enumerate(REFUSED)]
)
def test_a_command_that_is_refused_leaves_no_secret(tmp_path, home, what, tried):
    words, code = program(tmp_path, home, *REFUSED[what])
    assert code == 1, words
    assert "Traceback" not in words
    if "-m" not in REFUSED[what]:
        assert leaks(tmp_path, words) == []
        tried("secrets", "a password in a command that is refused", "in no file, nor printed")
        return
    # Hydra lists the jobs on the terminal; in which file they lie is documented
    assert {Path(where).name for where, _ in leaks(tmp_path)} == {"jobs.json"}
    assert list(tmp_path.glob("outputs/*/*/1/*.log"))
    assert not [*tmp_path.rglob(".hydra"), *tmp_path.rglob("multirun.yaml")]
    tried("secrets", "a password in a sweep that is refused", "in no file but jobs.json")


def test_leaks_are_found(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 50 + zlib.compress(b"y" + KEY.encode()))
    assert leaks(tmp_path) == [(str(tmp_path / "a"), "the environment")]
    assert leaks(tmp_path, "5ecretToken")[1:] == [("text 0", "a token")]
