"""A progress bar that says what is being done."""

from collections.abc import Collection, Iterator
from typing import TypeVar

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from tqdm.auto import tqdm

Item = TypeVar("Item")


def progress(items: Collection[Item], what: str) -> Iterator[Item]:
    """Go through `items` under a bar that says what is being done."""
    yield from tqdm(items, desc=what, leave=True)


class PassProgress(TQDMProgressBar):
    """One bar for each pass over a split, named by the phase of its LightningModule."""

    def __init__(self) -> None:
        super().__init__(refresh_rate=1, leave=True)

    @property
    def test_description(self) -> str:
        """What a pass without training does."""
        return self._phase()

    @property
    def train_description(self) -> str:
        """What a training pass does."""
        return self._phase()

    @property
    def validation_description(self) -> str:
        """What the pass between training passes does."""
        return "validating"

    def on_train_epoch_start(self, trainer: Trainer, *args: object) -> None:
        """Say which of how many epochs this is."""
        super().on_train_epoch_start(trainer, *args)
        epoch = f"{trainer.current_epoch + 1}/{trainer.max_epochs}"
        self.train_progress_bar.set_description(f"{self._phase()}, epoch {epoch}")

    def _phase(self) -> str:
        return str(getattr(self.trainer.lightning_module, "phase", "")) or "working"
