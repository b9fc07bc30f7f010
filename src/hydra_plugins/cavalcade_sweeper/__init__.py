"""A Hydra sweeper that one mistyped option does not stop.

Hydra looks for its plugins in packages under `hydra_plugins`, and nowhere else.
"""

from collections.abc import Sequence

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from cavalcade import cli


class TolerantSweeper(BasicSweeper):
    """Runs every job of a sweep that can be composed, and says why the others cannot."""

    def get_job_batch(self) -> Sequence[Sequence[str]]:
        """The jobs of the next batch that can be composed."""
        return [overrides for overrides in super().get_job_batch() if self._composes(overrides)]

    def _composes(self, overrides: Sequence[str]) -> bool:
        assert self.hydra_context is not None
        assert self.config is not None
        loader = self.hydra_context.config_loader
        try:
            loader.load_sweep_config(self.config, list(overrides))
        except (HydraException, OmegaConfBaseException) as error:
            cli.fail(f"job {' '.join(overrides)} left out: {cli.sentence(error)}")
            return False
        return True
