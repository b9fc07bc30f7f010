"""Reading a file that is replaced meanwhile is an error in one sentence; nothing else is hidden."""

from pathlib import Path

import pytest

from cavalcade import InputError
from cavalcade.file_versions import file_version, unchanged


@pytest.fixture
def path(tmp_path):
    place = tmp_path / "masks"
    place.write_text("one")
    return place


def replaced(path):
    other = path.with_name("other")
    other.write_text("two")
    other.rename(path)


def read(path, *happening):
    with unchanged(path, file_version(path)):
        for each in happening:
            each()


def failing(error):
    def fail():
        raise error

    return fail


def test_a_file_that_stays_can_be_read(path):
    with unchanged(path, file_version(path)):
        assert path.read_text() == "one"


@pytest.mark.parametrize("change", [replaced, Path.unlink])
@pytest.mark.parametrize("then", [[], [failing(OSError)]])
def test_a_file_that_does_not_stay_is_an_error(path, change, then):
    with pytest.raises(InputError, match="was made again"):
        read(path, lambda: change(path), *then)


def test_other_errors_stay_what_they_are(path):
    with pytest.raises(OSError):  # noqa: PT011
        read(path, failing(OSError))
    with pytest.raises(KeyboardInterrupt):
        read(path, lambda: replaced(path), failing(KeyboardInterrupt))
