"""Bars that say what is being done."""

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer

from cavalcade import progress as module
from cavalcade.progress import progress
from cavalcade.visiting.pass_progress import PassProgress


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


def test_a_bar_says_what_is_done_and_how_long_it_takes(capfd, monkeypatch):
    monkeypatch.setattr(module, "DELAY", 0)
    assert list(progress("abc", "counting", 3)) == list("abc")
    said = capfd.readouterr().err
    assert "counting: 100%" in said
    assert "3/3 [00:00<00:00" in said


def test_what_is_done_at_once_has_no_bar(capfd):
    assert list(progress("abc", "counting", 3)) == list("abc")
    assert capfd.readouterr().err == ""


def test_the_first_process_alone_has_bars(capfd, monkeypatch):
    monkeypatch.setattr(module, "DELAY", 0)
    monkeypatch.setattr(module.rank_zero_only, "rank", 1)
    assert list(progress("abc", "counting", 3)) == list("abc")
    assert capfd.readouterr().err == ""
