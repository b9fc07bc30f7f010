"""Faces whose reading fails, or ends the process, in one of several processes alone."""

import os
import signal
import time
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from cavalcade import processes
from cavalcade.data import Faces
from cavalcade.data.faces import FacesSplit
from cavalcade.errors import InputError

READS = count(1)


class FaultySplit(FacesSplit):
    def image(self, index):
        faulty, act, nth = os.environ["FAULT"].split()  # a rank, what happens, at which image
        number = next(READS)
        if number == 1:
            Path(f"pid-{processes.rank()}").write_text(str(os.getpid()))
        if number == int(nth):
            self.fault(act, mine=processes.rank() == int(faulty))
        return super().image(index)

    def fault(self, act, *, mine):
        if mine and act == "raise":
            raise InputError(f"an image cannot be read in process {processes.rank()}")
        if mine:
            while not Path(f"pid-{1 - processes.rank()}").exists():  # the other one may be slower
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGKILL)
        if act == "kill-beside-a-sleeper":
            time.sleep(600)


@dataclass(kw_only=True)
class FaultyFaces(Faces):
    def open(self, split):
        return FaultySplit(split, self.num_images[split], self.size, self.seed)
