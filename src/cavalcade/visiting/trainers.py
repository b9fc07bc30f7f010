"""The Lightning trainer of each pass, and which of its settings a user may choose."""

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger

from cavalcade import processes
from cavalcade.errors import InputError, check_choice, closest
from cavalcade.visiting.pass_progress import PassProgress

HARDWARE = (  # settings of the trainer that change no result
    *("accelerator", "devices", "strategy", "num_nodes"),
    *("enable_progress_bar", "benchmark"),
)
SETTINGS = (*HARDWARE, "precision", "deterministic")
STRATEGIES = ("auto", "ddp")
FULL_PRECISION = ("32-true", "32")
HALF_PRECISION = "bf16-mixed"
PRECISIONS = ("auto", *FULL_PRECISION, HALF_PRECISION, "16-mixed")


def device_of(accelerator: str) -> torch.device:
    """That a trainer uses: a CUDA device where there is one, unless it is not to."""
    cuda = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return torch.device("cuda" if cuda else "cpu")


def computes_in_bfloat16(device: torch.device) -> bool:
    """Whether a device has instructions for it, rather than imitating it slowly."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def autocast(precision: str, device: torch.device) -> AbstractContextManager[None]:
    """That in which a trainer of this precision runs a network."""
    half = torch.float16 if precision == "16-mixed" and device.type == "cuda" else torch.bfloat16
    return torch.autocast(device.type, half, enabled=precision not in FULL_PRECISION)


@dataclass
class Trainers:
    """Makes the Lightning trainer of each pass.

    Attributes:
        base: `lightning.Trainer` with the user's settings (accelerator, devices, precision).
        logger: tracks the fit; other passes are silent.
        root: where Lightning puts files, and looks for checkpoints that Slurm had it make.
    """

    base: Callable[..., Trainer]
    logger: Logger | None = None
    root: Path | None = None

    def __call__(
        self,
        *,
        tracked: bool = False,
        extra_callbacks: list[Callback] | None = None,
        **settings: Any,  # noqa: ANN401
    ) -> Trainer:
        """A trainer for one pass."""
        quiet = {
            "enable_checkpointing": False,
            "enable_model_summary": False,
            "num_sanity_val_steps": 0,
            "use_distributed_sampler": False,  # ours has no image twice
            "default_root_dir": self.root,
        }
        bars = [PassProgress()] if self.given.get("enable_progress_bar", True) else []
        try:
            trainer = self.base(
                callbacks=[*bars, *(extra_callbacks or [])],
                logger=(self.logger or False) if tracked else False,
                **(quiet | self._hardware | {"precision": self.precision} | settings),
            )
        except (ValueError, TypeError, MisconfigurationException) as error:
            raise InputError(f"the trainer cannot be built: {error}") from error
        return trainer

    def start(self) -> None:
        """Start the other processes of a visit, where the settings ask for more than one.

        Raises:
            InputError: see `check`.
        """
        if self._num_processes() > 1:
            processes.start(self.given | self._hardware)

    def check(self) -> None:
        """Build a trainer once, before anything is written.

        Raises:
            InputError: for a setting that has no place here, or does not work on this machine,
                or if the processes that it asks for were not started.
        """
        asked, there = self._num_processes(), processes.count()
        if asked != there:
            raise InputError(
                f"the trainer asks for {asked} processes and there is {there}: call start() of "
                "Trainers before anything else, or set trainer.devices=1"
            )

    def _num_processes(self) -> int:
        """How many the settings ask for, once they are known to be sound."""
        for name in self.given:
            if name not in SETTINGS:
                raise InputError(
                    f"trainer.{name} cannot be set, since all probes must train on all images as "
                    f"if alone; {closest(name, SETTINGS)}"
                )
        if str(self.given.get("precision", "32-true")) not in PRECISIONS:
            raise InputError(
                f"trainer.precision is {self.given['precision']!r}; give one of "
                f"{', '.join(PRECISIONS)}, which leave the weights of the frozen network as they "
                "are"
            )
        if self.precision == "16-mixed" and self.device.type == "cpu":
            raise InputError(
                "trainer.precision=16-mixed needs a GPU; give auto, bf16-mixed or 32-true"
            )
        check_choice("trainer.strategy", str(self.given.get("strategy", "auto")), STRATEGIES)
        return self().world_size

    def identity(self) -> dict[str, Any]:
        """The user's settings that change results, for the digest of a run."""
        given = {name: value for name, value in self.given.items() if name not in HARDWARE}
        given["precision"] = self.precision
        return given

    @property
    def precision(self) -> str:
        """Of the network, `auto` as that which is fastest on the device."""
        asked = str(self.given.get("precision", FULL_PRECISION[0]))
        if asked == "auto":
            half = computes_in_bfloat16(self.device)
            return HALF_PRECISION if half else FULL_PRECISION[0]
        return FULL_PRECISION[0] if asked in FULL_PRECISION else asked

    @property
    def device(self) -> torch.device:
        """That each process uses."""
        return device_of(str(self.given.get("accelerator", "auto")))

    @property
    def _hardware(self) -> dict[str, Any]:
        """What we choose where the user does not."""
        automatic = self.given.get("accelerator", "auto") == "auto"
        # the statistics are float64, which MPS lacks
        return {"accelerator": "cpu"} if automatic and torch.backends.mps.is_available() else {}

    @property
    def given(self) -> dict[str, Any]:
        """What the user set."""
        return self.base.keywords if isinstance(self.base, functools.partial) else {}
