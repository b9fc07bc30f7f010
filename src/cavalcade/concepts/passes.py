"""What every pass over a split has in common: a frozen network and a name for the user."""

from lightning.pytorch import LightningModule

from cavalcade.backbones import FrozenBackbone


class BackbonePass(LightningModule):
    """A LightningModule around a frozen network, which never enters a checkpoint.

    Attributes:
        phase: what the pass does, in a word for the progress bar.
    """

    phase = ""

    def __init__(self, backbone: FrozenBackbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.strict_loading = False  # the network is not in the checkpoint, see below

    def on_save_checkpoint(self, checkpoint: dict[str, dict[str, object]]) -> None:
        """Keep the network's weights out: they belong to the zoo."""
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {
            key: value for key, value in state.items() if not key.startswith("backbone.")
        }
