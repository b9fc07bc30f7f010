"""Bars that say what is being done."""

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer

from cavalcade.report.progress import PassProgress


class Failing(LightningModule):
    phase = "looking"

    def test_step(self, batch):  # noqa: ARG002
        raise ValueError("seen enough")


@pytest.mark.filterwarnings("ignore:.*test_dataloader.*")
def test_what_is_said_after_a_failure_begins_a_line(capfd):
    trainer = Trainer(
        accelerator="cpu",
        callbacks=[PassProgress()],
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    with pytest.raises(ValueError, match="seen enough"):
        trainer.test(Failing(), torch.utils.data.DataLoader(torch.zeros(3, 1)), verbose=False)
    said = "".join(capfd.readouterr())
    assert "looking" in said
    assert said.endswith("\n")
