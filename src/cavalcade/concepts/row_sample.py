"""One pass over the training images that keeps some activations of every layer."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cavalcade.backbones import FrozenBackbone
from cavalcade.concepts.kept_rows import KeptRows
from cavalcade.concepts.passes import BackbonePass
from cavalcade.data.batches import ConceptBatch
from cavalcade.data.geometry import cells_inside


@dataclass(frozen=True)
class LayerRows:
    """Activations of a layer at some pixels, those of an image after each other.

    Attributes:
        activations: one pixel each row.
        images: position of the image that each is of.
    """

    activations: Float[Tensor, "rows channels"]
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
        self.rows: KeptRows[LayerRows] = KeptRows(backbone.names)

    def test_step(self, batch: ConceptBatch) -> None:
        """Keep some pixels of one batch."""
        for _, seen in self.in_parts(batch, self._look):
            for name, parts in seen.items():
                self.rows.add(name, parts)

    def _look(self, batch: ConceptBatch) -> dict[str, list[LayerRows]]:
        """The pixels of each layer that are kept, image by image."""
        activations = self.activations(batch)
        frames, positions = batch.frames.cpu(), batch.positions.tolist()
        grids = {(maps.shape[2], maps.shape[3]) for maps in activations.values()}
        cells = {grid: self._cells(grid, frames, positions) for grid in sorted(grids)}
        seen: dict[str, list[LayerRows]] = {name: [] for name in activations}
        for name, maps in activations.items():
            pixels = maps.flatten(2).transpose(1, 2)
            for image, chosen, position in zip(
                pixels, cells[maps.shape[2], maps.shape[3]], positions, strict=True
            ):
                rows = image[chosen.to(maps.device)].float().cpu()
                seen[name].append(LayerRows(rows, torch.full((len(rows),), position)))
        return seen

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
