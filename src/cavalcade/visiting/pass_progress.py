"""The progress bars of passes over a split."""

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm


class PassProgress(TQDMProgressBar):
    """One bar for each pass over a split, named by the phase of its LightningModule."""

    def __init__(self) -> None:
        super().__init__(leave=True)

    def init_test_tqdm(self) -> Tqdm:
        """The bar of a pass that fits nothing."""
        bar = super().init_test_tqdm()
        bar.set_description(self._phase)
        return bar

    def on_test_batch_start(self, *args: Any) -> None:  # noqa: ANN401
        """Name the pass instead of its data loader."""
        super().on_test_batch_start(*args)
        self.test_progress_bar.set_description(self._phase, refresh=False)

    def on_validation_batch_start(self, *args: Any) -> None:  # noqa: ANN401
        """Leave out the data loader."""
        super().on_validation_batch_start(*args)
        self.val_progress_bar.set_description("validating", refresh=False)

    def on_train_epoch_start(self, trainer: Trainer, *args: object) -> None:
        """Say which of how many epochs this is."""
        super().on_train_epoch_start(trainer, *args)
        epoch = f"{trainer.current_epoch + 1}/{trainer.max_epochs}"
        self.train_progress_bar.set_description(f"{self._phase}, epoch {epoch}")

    def on_exception(self, *_: object) -> None:
        """End the line of a bar, or what is said next would follow it."""
        for bar in (self._train_progress_bar, self._val_progress_bar, self._test_progress_bar):
            if bar is not None:
                bar.close()

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """The loss, without the logger's version number."""
        metrics = super().get_metrics(trainer, pl_module)
        return {name: value for name, value in metrics.items() if name != "v_num"}

    @property
    def _phase(self) -> str:
        return str(getattr(self.trainer.lightning_module, "phase", "working"))
