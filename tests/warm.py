"""A process that has the program's modules and becomes the program, again and again.

To start a program takes seconds, nearly all for its imports. Where a test does not look at the
start, it asks this process, which forks: the child goes to its folder, takes its environment and
its arguments, and runs the program as `python PROGRAM` does, to its end. Not for runs that W&B
tracks: its temporary folder is made at its import, and goes with the first child.

    python warm.py

reads a line of JSON for each program, and answers with its exit code.
"""

import atexit
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

LONGEST = 300  # seconds
EARLY = ("HF_", "OMP_", "MKL_", "MPL", "PYTHON", "TORCH")  # read by modules at their import


def run_warm(
    program: Path, *arguments: str, cwd: Path, env: dict[str, str]
) -> CompletedProcess[str]:
    """What `subprocess.run([sys.executable, program, *arguments], ...)` gives, sooner.

    But for what is said, or read of the environment, while modules are imported.

    Raises:
        AssertionError: it did not end in five minutes, or needs another environment from its start.
    """
    for name in {*env, *os.environ}:
        if name.startswith(EARLY):
            assert env.get(name) == os.environ.get(name) == _server().env.get(name), name
    with tempfile.TemporaryDirectory() as folder:
        asked = {"argv": [str(program), *arguments], "cwd": str(cwd), "env": env, "said": folder}
        code = _server().ask(asked)
        said = [(Path(folder) / name).read_text() for name in ("stdout", "stderr")]
    assert code != -signal.SIGALRM, f"{program} did not end in {LONGEST} s: {said[1][-3000:]}"
    return CompletedProcess(asked["argv"], code, *said)


class Server:
    """The warm process of this process of tests."""

    def __init__(self) -> None:
        self.env = dict(os.environ)
        self.process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        atexit.register(self.end)

    def ask(self, asked: dict[str, Any]) -> int:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, "the process that starts programs is gone"
        return int(answer)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


_server = cache(Server)


def serve() -> dict[str, Any]:
    """Answer; returns in a child only, with what it was asked to run."""
    while line := sys.stdin.readline():
        asked = json.loads(line)
        pid = os.fork()
        if pid == 0:
            return asked
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
    sys.exit()


def become(asked: dict[str, Any]) -> None:
    """Run a program, in a process that was forked for it."""
    signal.alarm(LONGEST)
    for number, name in enumerate(("stdout", "stderr"), start=1):
        file = os.open(Path(asked["said"]) / name, os.O_WRONLY | os.O_CREAT)
        os.dup2(file, number)
        os.close(file)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.clear()
    os.environ.update(asked["env"])
    os.chdir(asked["cwd"])
    sys.argv = asked["argv"]
    sys.path[0] = str(Path(sys.argv[0]).parent)
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    from hydra.core.plugins import Plugins

    import cavalcade.programs.compare
    import cavalcade.programs.train  # noqa: F401

    Plugins.instance()  # which looks for them in all packages
    become(serve())
