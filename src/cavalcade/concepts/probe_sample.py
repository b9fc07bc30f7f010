"""One pass over a split that keeps the pixels of every layer from which probes are fitted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cavalcade import processes
from cavalcade.backbones import FrozenBackbone, Preprocessing
from cavalcade.concepts.drawing import inclusion, systematic
from cavalcade.concepts.kept_rows import Group, KeptRows
from cavalcade.concepts.passes import BackbonePass
from cavalcade.concepts.survey import ConceptShares
from cavalcade.data.batches import WHOLE_FRAME, ConceptBatch, Grid
from cavalcade.data.contents import Contents
from cavalcade.data.geometry import Neighbours, cells_of, neighbours, seen_cells

GOLDEN = 0.6180339887498949  # multiples of it are evenly spread over [0, 1), never in step


@dataclass(frozen=True)
class Places:
    """Some places of a grid, with the truth there, in the order of the images.

    Attributes:
        images: position of the image that each is of.
        weights: by how much a place counts in the mean over all places of its image.
        present: share of the place where each concept is and its truth is known.
        labelled: share of the place where the truth of each concept is known.
    """

    images: Int[Tensor, " rows"]
    weights: Float[Tensor, " rows"]
    present: Float[Tensor, "rows concepts"]
    labelled: Float[Tensor, "rows concepts"]


@dataclass(frozen=True)
class DrawnRows(Places):
    """Places with the activations of a layer, as the network gave them."""

    activations: Float[Tensor, "rows channels"]

    @classmethod
    def of(cls, kept: KeptRows[Places], layer: str) -> "DrawnRows | None":
        """What was kept of a layer, once; None where nothing is."""
        own = kept.of(layer)
        return None if own is None else cls(**vars(own[0]), activations=own[1])

    def to(self, device: torch.device) -> "DrawnRows":
        """The same on a device."""
        return DrawnRows(*(part.to(device) for part in vars(self).values()))


Seen = tuple[dict[Group, Places], dict[str, Float[Tensor, "_ _"]]]  # the latter by layer


@dataclass(frozen=True)
class Importance:
    """What a place may add to the balanced losses of all concepts, 1 on average where it is drawn.

    A balanced loss gives either class half of its weight, so that a place of a rare concept
    matters most: drawn in proportion, it takes a tenth of the rows that an even draw takes.

    Attributes:
        present: of a place that shows a concept.
        absent: of one that does not.
        images: how many grids would be filled by the places that show an image at all.
    """

    present: Float[Tensor, " concepts"]
    absent: Float[Tensor, " concepts"]
    images: float

    @classmethod
    def of(
        cls,
        training: Contents,
        drawn: Contents,
        filled: Float[Tensor, " images"],
        *,
        containing: bool,
    ) -> "Importance":
        """From the labels of the images of a split, or of those that contain each concept.

        What a crop leaves out is taken to be as what it shows.

        Args:
            training: the images whose classes are balanced.
            drawn: those of whose places some are drawn.
            filled: share of the grid that each of these fills.
            containing: whether only images that contain a concept count for it.
        """
        everywhere = torch.ones(len(training), dtype=torch.float64)
        classes = cls._areas(training, everywhere, containing=containing)
        each = torch.where(classes > 0, 1 / classes, 0)
        areas = cls._areas(drawn, filled, containing=containing)
        mean = (each * areas).sum() / filled.sum()
        present, absent = (each / mean).nan_to_num(posinf=0).float()
        return cls(present, absent, float(filled.sum()))

    @staticmethod
    def _areas(
        contents: Contents, filled: Float[Tensor, " images"], *, containing: bool
    ) -> Float[Tensor, "2 concepts"]:
        """In grids: where a concept is, and where it is known not to be."""
        unit = (filled / contents.num_pixels)[:, None]
        present, labelled = contents.present * unit, contents.labelled * unit
        if containing:
            labelled = labelled * (present > 0)
        shown, known = present.sum(dim=0), labelled.sum(dim=0)
        return torch.stack([shown, (known - shown).clamp(min=0)])

    def __call__(
        self,
        present: Float[Tensor, "images concepts rows columns"],
        labelled: Float[Tensor, "images concepts rows columns"],
    ) -> Float[Tensor, "images places"]:
        """Of every place of a grid."""
        shown = (self.present - self.absent).to(present) @ present.flatten(2)
        known = self.absent.to(present) @ labelled.flatten(2)
        return (shown + known).clamp(min=0)


class ProbeSample(BackbonePass):
    """Keeps places of every layer's grid, and pixels of the common grid, of all images of a split.

    Drawn in proportion to their importance, systematically within each image: neighbours, which
    are alike, are never all drawn. A row weighs as one over its chance, so that sums over rows
    are unbiased. If all places fit, all are kept. What is drawn depends on the seed, the image,
    its labels and the grid alone.

    Args:
        backbone: the frozen network.
        training: the training images, whose labels say what is rare.
        drawn: the images of the split of whose places some are kept.
        members: which of them each replicate learns from.
        rows: of each layer that are kept, about so many.
        pixels: of the common grid that are kept, with activations that are interpolated as
            concept maps are; 0 for none.
        grid: the common one.
        containing: only images that contain a concept count for it.
        seed: of the draw.
    """

    phase = "sampling activations for probes"
    members: Tensor

    def __init__(
        self,
        backbone: FrozenBackbone,
        training: Contents,
        drawn: Contents,
        members: Bool[Tensor, "replicates images"],
        *,
        rows: int,
        pixels: int,
        grid: Sequence[int],
        containing: bool,
        seed: int,
    ) -> None:
        super().__init__(backbone)
        self.containing = containing
        of_input, of_image = _seen(drawn, backbone.preprocessing)
        self.importance = Importance.of(training, drawn, of_input, containing=containing)
        # thresholds are those of all images
        self.on_all = Importance.of(training, drawn, of_image, containing=False)
        self.num_images = members.shape[1]
        self.num_rows, self.pixels, self.grid = rows, pixels, (grid[0], grid[1])
        self.start = float(np.random.default_rng(seed).random())
        grids = {layer.name: layer.grid for layer in backbone.layers}
        expected: dict[Group, int] = {grid: self._expected(grid, rows) for grid in grids.values()}
        self.rows: KeptRows[Places] = KeptRows(grids, expected)
        on_grid = dict.fromkeys(backbone.names if pixels else (), self.grid)
        self.on_grid: KeptRows[Places] = KeptRows(
            on_grid, {self.grid: self._expected(self.grid, pixels)}
        )
        self.shares = ConceptShares(len(members), len(training.concepts), containing=containing)
        self.register_buffer("members", members, persistent=False)

    @property
    def some_pixels(self) -> bool:
        """Whether the pixels of the common grid that are kept stand for others."""
        return self.on_all.images * self.grid[0] * self.grid[1] > self.pixels

    def test_step(self, batch: ConceptBatch) -> None:
        """Keep some places of one batch."""
        for part, (rows, on_grid) in self.in_parts(batch, self._look):
            self.shares.update(part.targets[WHOLE_FRAME], self.members[:, part.positions])
            self.rows.add(*rows)
            self.on_grid.add(*on_grid)

    def _look(self, batch: ConceptBatch) -> tuple[Seen, Seen]:
        """The rows of each layer: on its own grid, and on the common one."""
        activations = self.activations(batch)
        with torch.autocast(self.device.type, enabled=False):  # chances have all digits
            return self._on_layers(batch, activations), self._on_common(batch, activations)

    def _expected(self, grid: Grid, budget: int) -> int:
        """About how many rows of all images this process will keep."""
        everything = self.num_images * grid[0] * grid[1]
        return (min(budget + budget // 100, everything) + self.num_images) // processes.count()

    def _on_layers(self, batch: ConceptBatch, activations: Mapping[str, Tensor]) -> Seen:
        cells: dict[Group, Tensor] = {}
        places: dict[Group, Places] = {}
        rows = {}
        for layer in self.backbone.layers:
            if layer.grid not in cells:
                cells[layer.grid], places[layer.grid] = self._on_layer(batch, layer.grid)
            own = cells_of(activations[layer.name]).index_select(0, cells[layer.grid])
            rows[layer.name] = own.cpu()
        return places, rows

    def _on_common(self, batch: ConceptBatch, activations: Mapping[str, Tensor]) -> Seen:
        if not self.pixels:
            return {}, {}
        counted = batch.labelled & seen_cells(batch.frames, self.grid)[:, None]
        present = (batch.truth & counted).float()
        drawn, places = self._drawn(batch, self.on_all, present, counted.float(), self.pixels)
        line, column = drawn // self.grid[1], drawn % self.grid[1]
        where = line // self.grid[0], line % self.grid[0], column
        between: dict[torch.Size, Neighbours] = {}
        rows = {}
        for name, maps in activations.items():
            size = maps.shape[2:]
            if size not in between:
                between[size] = neighbours(size, batch.frames, self.grid, *where)
            own = between[size].interpolate(maps).to(maps.dtype)
            rows[name] = own.cpu()
        return {self.grid: places}, rows

    def _on_layer(self, batch: ConceptBatch, grid: Grid) -> tuple[Tensor, Places]:
        present, labelled = batch.targets[grid]
        if self.containing:
            contained = batch.targets[WHOLE_FRAME].present > 0
            present, labelled = present * contained, labelled * contained
        return self._drawn(batch, self.importance, present, labelled, self.num_rows)

    def _drawn(
        self,
        batch: ConceptBatch,
        importance_of: Importance,
        present: Float[Tensor, "images concepts rows columns"],
        labelled: Float[Tensor, "images concepts rows columns"],
        budget: int,
    ) -> tuple[Int[Tensor, " drawn"], Places]:
        """Some places of a grid, where the budget is that of the whole split.

        Returns:
            Which cells of the batch they are, as `cells_of` counts, and what is known of them.
        """
        importance = importance_of(present, labelled)
        places = importance.shape[1]
        share = budget / (importance_of.images * places)
        if share >= 1:
            chances = (importance > 0).float()
        else:
            chances = inclusion(importance, importance.sum(dim=1, keepdim=True) * share)
        starts = (batch.positions.double() * GOLDEN + self.start) % 1
        # a GPU would add chances up in any order
        drawn = systematic(chances.cpu(), starts[:, None].cpu()).to(chances.device)
        image, place = drawn.nonzero(as_tuple=True)
        return image * places + place, Places(
            images=batch.positions[image].cpu(),
            weights=(1 / (chances[image, place] * places)).cpu(),
            present=present.flatten(2)[image, :, place].cpu(),
            labelled=labelled.flatten(2)[image, :, place].cpu(),
        )


def _seen(
    contents: Contents, preprocessing: Preprocessing
) -> tuple[Float[Tensor, " images"], Float[Tensor, " images"]]:
    """Share of the network's input that shows each image, and share of the image that is shown."""
    shapes, which = torch.unique(contents.shapes, dim=0, return_inverse=True)
    frames = [preprocessing.frame(*shape) for shape in shapes.tolist()]
    seen = torch.tensor([frame.seen for frame in frames], dtype=torch.float64)
    areas = torch.tensor([frame.area for frame in frames], dtype=torch.float64)
    return (seen / areas)[which], seen[which]
