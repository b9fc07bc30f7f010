"""What others have named gives no order to a terminal, and no sentence or line of its own."""

import json
import logging
import logging.config
import sys
from pathlib import Path

import pandas as pd
import pytest
from hydra import compose, initialize_config_module
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from torch._utils import ExceptionWrapper

from cavalcade import InputError
from cavalcade.cli import user_error
from cavalcade.comparing.comparable import say_differences
from cavalcade.data.links import LeadsOutError
from cavalcade.data.sample import WholeError
from cavalcade.errors import shown
from cavalcade.folders import read_meta
from cavalcade.log_lines import AS_LINES
from cavalcade.report.tables import print_places, print_sentence, print_table
from cavalcade.runs import load_run
from foreign import meta_of, reseal, visit_squares
from test_cli import soon

FORGED = "a\nAll is well: run `pip install x`"
HOSTILE = (
    FORGED,
    "a\ncavalcade.errors.InputError: All is well",
    "\x1b[31mred",
    "\r\x08\x07back",
    "\u202egnp.exe",
    "a\u2028b",
    "\x9b31m",
)


@settings(max_examples=200)
@given(st.text())
def test_what_is_shown_can_be_printed(text):
    found = shown(text)
    assert "".join(found.split()).isprintable()
    assert len(found.splitlines()) <= 1
    assert shown(found) == found
    if text.isprintable():
        assert found == text


@pytest.mark.parametrize("name", HOSTILE)
def test_names_forge_no_sentence(tmp_path, name, tried):
    for files in ({name: "0" * 64}, {name: 5}, {f"../{name}": "0" * 64}):
        meta = {"kind": "run", "format": 1, "files": files}
        (tmp_path / "meta.json").write_text(json.dumps(meta))
        with pytest.raises(InputError) as error:
            read_meta(tmp_path, "run")
        said = user_error(error.value)
        assert said == str(error.value)
        assert said.isprintable()
        assert str(tmp_path) in said
        assert said.endswith("get it anew from where it came")
    tried("code", "a name that forges a sentence, or orders the terminal",
          "shown as it is, and not interpreted", 3)  # fmt: skip


@pytest.mark.parametrize("kind", [InputError, WholeError, LeadsOutError])
@pytest.mark.parametrize("name", HOSTILE)
def test_names_forge_no_sentence_of_a_data_worker(name, kind, tried):
    try:
        raise kind(f"{name} is no image; mend it")
    except InputError:
        carried = ExceptionWrapper(sys.exc_info(), where="in DataLoader worker process 0")
    with pytest.raises(InputError) as error:
        carried.reraise()
    said = user_error(error.value)
    assert said.isprintable()
    assert said == str(InputError(f"{name} is no image; mend it"))
    tried("code", "a name that forges a sentence, or orders the terminal",
          "shown as it is, and not interpreted")  # fmt: skip


@pytest.fixture(params=["train", "compare"])
def written(request, tmp_path):
    """What a program writes to its log of what is logged."""
    with initialize_config_module("cavalcade.conf", version_base="1.3"):
        config = compose(request.param, return_hydra_config=True)
    formatters = OmegaConf.to_container(config.hydra.job_logging.formatters)
    handler = {"class": "logging.FileHandler", "formatter": "simple", "filename": tmp_path / "log"}
    names = ("cavalcade.x", "library")
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": formatters,
            "handlers": {"file": handler},
            "loggers": {name: {"handlers": ["file"], "propagate": False} for name in names},
        }
    )
    yield lambda: (tmp_path / "log").read_text()
    for name in names:
        for each in [*logging.getLogger(name).handlers]:
            each.close()
            logging.getLogger(name).removeHandler(each)


def test_names_forge_no_line_of_a_log(written, tried):
    for name in HOSTILE:
        logging.getLogger("cavalcade.x").warning("the runs differ in %s", name)
    lines = written().split("\n")
    assert len(lines) == len(HOSTILE) + 1
    assert all(line.isprintable() for line in lines)
    tried("code", "a name that forges a line of a log", "shown as it is, and not interpreted",
          len(HOSTILE))  # fmt: skip


def test_lines_that_are_meant_stay(written):
    ours, library = logging.getLogger("cavalcade.x"), logging.getLogger("library")
    ours.error("Traceback:\n  \x1b[31m", extra=AS_LINES)
    library.warning("two\nlines\x1b")
    try:
        raise ValueError("\x1b[31m")
    except ValueError:
        ours.exception("a bug")
    first, second, *rest = written().split("\n")
    assert (first, second) == ("Traceback:", "  \\x1b[31m")
    assert rest[:3] == ["two", "lines\\x1b", "a bug"]
    assert rest[-2:] == ["ValueError: \\x1b[31m", ""]
    assert "\x1b" not in written()


def test_names_order_nothing_in_a_table(capsys, tried):
    for name in HOSTILE:
        print_table(name, pd.DataFrame({name: [name]}), width=200)
        print_sentence(name)
        print_places({name: Path(name)})
        found = capsys.readouterr().out
        assert "".join(found.split()).isprintable()
    tried("code", "names that order the terminal, in tables", "shown as it is, and not interpreted",
          len(HOSTILE))  # fmt: skip


@pytest.mark.slow
def test_names_order_nothing_where_runs_are_compared(tmp_path, caplog):
    """Settings, by which runs differ, are somebody's."""
    folders = [visit_squares(tmp_path / "runs", "probed", label=label) for label in ("a", "b")]
    identity = meta_of(folders[1])["identity"]
    for name in HOSTILE:
        identity["method"][name] = name * 1000
    reseal(folders[1], identity=identity)
    reseal(
        folders[0],
        identity=meta_of(folders[0])["identity"] | {"method": dict.fromkeys(identity["method"], 1)},
    )
    say_differences([load_run(folder) for folder in folders])
    (said,) = (record.getMessage() for record in caplog.records if "differ in" in record.message)
    assert said.isprintable()
    assert "concepts.a\\nAll is well" in said
    files = meta_of(folders[0])["files"] | {FORGED: "0" * 64}
    (folders[0] / "meta.json").write_text(json.dumps(meta_of(folders[0]) | {"files": files}))
    done = soon(tmp_path, "compare.py", f"runs=[{folders[0]}]", "logger=none")
    assert done.returncode == 1
    (line,) = (done.stdout + done.stderr).strip().split("\n")
    assert "a\\nAll is well: run `pip install x` is missing or damaged" in line
