"""One pass over the training images that keeps some activations of every layer."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cavalcade import processes
from cavalcade.backbones import FrozenBackbone
from cavalcade.concepts.kept_rows import Group, KeptRows
from cavalcade.concepts.passes import BackbonePass
from cavalcade.data.batches import ConceptBatch
from cavalcade.data.geometry import cells_inside


@dataclass(frozen=True)
class Origins:
    """Where pixels come from, those of an image after each other.

    Attributes:
        images: position of the image that each is of.
    """

    images: Int[Tensor, " rows"]


class RowSample(BackbonePass):
    """Keeps as many pixels of every image, drawn without those outside of the image.

    The budget is spread evenly: where it is no multiple of the images, some give one more. Which
    pixels are drawn depends on the seed, the image and the layer's grid alone.

    Args:
        backbone: the frozen network.
        num_images: of the split.
        budget: rows of each layer that are kept of all images together.
        seed: of the draw.
    """

    phase = "sampling activations"

    def __init__(self, backbone: FrozenBackbone, num_images: int, budget: int, seed: int) -> None:
        super().__init__(backbone)
        self.num_images, self.budget, self.seed = num_images, budget, seed
        groups = {layer.name: layer.grid for layer in backbone.layers}
        expected: dict[Group, int] = {
            grid: min(budget, num_images * grid[0] * grid[1]) // processes.count() + 1
            for grid in groups.values()
        }
        self.rows: KeptRows[Origins] = KeptRows(groups, expected)

    def test_step(self, batch: ConceptBatch) -> None:
        """Keep some pixels of one batch."""
        for _, seen in self.in_parts(batch, self._look):
            self.rows.add(*seen)

    def _look(self, batch: ConceptBatch) -> tuple[dict[Group, Origins], dict[str, Tensor]]:
        """The pixels of each layer that are kept, image by image."""
        activations = self.activations(batch)
        frames, positions = batch.frames.cpu(), batch.positions.tolist()
        grids = {(maps.shape[2], maps.shape[3]) for maps in activations.values()}
        cells = {grid: self._cells(grid, frames, positions) for grid in sorted(grids)}
        origins: dict[Group, Origins] = {}
        rows: dict[str, Tensor] = {}
        for grid, chosen in cells.items():
            counts = torch.tensor([len(own) for own in chosen])
            origins[grid] = Origins(torch.tensor(positions).repeat_interleave(counts))
        for name, maps in activations.items():
            pixels = maps.flatten(2).transpose(1, 2)
            own = zip(pixels, cells[maps.shape[2], maps.shape[3]], strict=True)
            rows[name] = torch.cat([image[where.to(maps.device)] for image, where in own])
        return origins, {name: own.float().cpu() for name, own in rows.items()}

    def _cells(
        self, grid: tuple[int, int], frames: Float[Tensor, "images 4"], positions: Sequence[int]
    ) -> list[Int[Tensor, " chosen"]]:
        """For each image cells of a layer's grid, in random order."""
        inside = cells_inside(frames, grid).flatten(1)
        chosen = []
        for cells, position in zip(inside, positions, strict=True):
            words = np.random.SeedSequence([self.seed, position]).generate_state(1)
            generator = torch.Generator().manual_seed(int(words[0]))
            order = torch.randperm(cells.numel(), generator=generator)
            first, last = (k * self.budget // self.num_images for k in (position, position + 1))
            chosen.append(order[cells[order]][: last - first])
        return chosen
