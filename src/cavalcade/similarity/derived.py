"""Numbers derived from a layer matrix, each with its interval and what chance gives."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from cavalcade.backbones import Layer
from cavalcade.errors import check_choice
from cavalcade.similarity.depth import STATISTICS, alignment
from cavalcade.similarity.estimates import Estimate, interval, p_value
from cavalcade.similarity.held_out import HeldOut, held_out_matches, sampled_mean
from cavalcade.similarity.layer_matrix import LayerMatrix

AT_ONCE = 512  # numbers of which all replicates are held once more


@dataclass(frozen=True)
class Number:
    """One derived number.

    Attributes:
        value: itself.
        replicates: the same in each resample of a block bootstrap; the resamples are the same
            for all numbers of a comparison, so that differences are paired.
        num_blocks: of images.
        repaired: the same of each re-pairing of images; may be empty.
    """

    value: float
    replicates: Float[np.ndarray, " resamples"]
    num_blocks: int
    repaired: Float[np.ndarray, " repairings"]

    @property
    def stderr(self) -> float:
        """Standard error, from the block bootstrap."""
        return float(self.replicates.std(ddof=1)) if self.num_blocks > 1 else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """Interval of 95 %, see `estimates.interval`."""
        low, high = interval(self.replicates, self.num_blocks)
        return float(low), float(high)

    @property
    def null(self) -> float:
        """Mean over re-paired images; NaN without any."""
        return float(self.repaired.mean()) if self.repaired.size else float("nan")

    @property
    def z(self) -> float:
        """By how many of their standard deviations it differs from re-paired images."""
        spread = self.repaired.std(ddof=1) if self.repaired.size > 1 else 0.0
        return float((self.value - self.null) / spread) if spread > 0 else float("nan")

    @property
    def p(self) -> float:
        """Two-sided p of no difference from 0, by Student's t over blocks."""
        return float(p_value(np.array(self.value), np.array(self.stderr), self.num_blocks))

    def __sub__(self, other: "Number") -> "Number":
        """The difference, paired over the same blocks."""
        shared = min(len(self.repaired), len(other.repaired))
        return Number(
            self.value - other.value,
            self.replicates - other.replicates,
            self.num_blocks,
            self.repaired[:shared] - other.repaired[:shared],
        )

    def __repr__(self) -> str:
        low, high = self.interval
        return f"Number({self.value:.4g}, 95 % from {low:.4g} to {high:.4g})"

    @property
    def less_repaired(self) -> "Number":
        """The difference from re-paired images, with the error of their mean; NaN without any."""
        mean, again = sampled_mean(self.repaired, len(self.replicates))
        return Number(
            self.value - float(mean),
            self.replicates - again,
            self.num_blocks,
            self.repaired - float(mean),
        )

    def row(self) -> dict[str, float]:
        """Value, error, interval and both nulls as columns of a table."""
        low, high = self.interval
        return {
            "value": self.value,
            "stderr": self.stderr,
            "low": low,
            "high": high,
            "repaired": self.null,
            "z_repaired": self.z,
        }


def rows_of(numbers: Sequence[Number]) -> dict[str, Float[np.ndarray, " numbers"]]:
    """`Number.row` of many numbers of one comparison at once, a column each."""
    parts: list[dict[str, np.ndarray]] = []
    for first in range(0, len(numbers), AT_ONCE):
        some = numbers[first : first + AT_ONCE]
        blocks, replicates = some[0].num_blocks, np.stack([each.replicates for each in some])
        low, high = interval(replicates.T, blocks)
        again = replicates.std(axis=1, ddof=1) if blocks > 1 else np.full(len(some), np.nan)
        parts.append(
            {
                "value": np.array([each.value for each in some]),
                "stderr": again,
                "low": low,
                "high": high,
                "repaired": np.array([each.null for each in some]),
                "z_repaired": np.array([each.z for each in some]),
            }
        )
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def mean_number(numbers: list[Number]) -> Number:
    """Mean of some numbers of one comparison."""
    shared = min(len(number.repaired) for number in numbers)
    return Number(
        float(np.mean([number.value for number in numbers])),
        np.mean([number.replicates for number in numbers], axis=0),
        numbers[0].num_blocks,
        np.mean([number.repaired[:shared] for number in numbers], axis=0),
    )


def pair_numbers(
    matrix: LayerMatrix, weights: Int[np.ndarray, "resamples blocks"]
) -> dict[str, Number]:
    """`similarity` of two networks, and `STATISTICS` of how their layers match.

    `similarity` is the mean over the layers of both, see `matched_numbers`; NaN where the
    measure has a chance level that was not sampled.
    """
    replicates = alignment(matrix, matrix.estimate.replicates(weights))
    values = alignment(matrix, matrix.values)
    repaired = alignment(matrix, matrix.repaired)
    ways = [list(way.values()) for way in matched_numbers(matrix, weights)]
    if all(ways):
        similarity = mean_number([mean_number(way) for way in ways])
    else:
        nothing = np.full(len(weights), np.nan)
        similarity = Number(float("nan"), nothing, weights.shape[1], np.empty(0))
    return {"similarity": similarity} | {
        name: Number(float(values[name]), replicates[name], weights.shape[1], repaired[name])
        for name in STATISTICS
    }


def matched_numbers(
    matrix: LayerMatrix, weights: Int[np.ndarray, "resamples blocks"]
) -> tuple[dict[str, Number], dict[str, Number]]:
    """For the trunk layers of either network how alike they are to their best matches.

    Chance removed: 0 on average for unrelated networks, see `held_out_matches`. Layers without
    a defined cell are left out.
    """
    first, second = (
        layer_numbers(way, layers, weights)
        for way, layers in zip(
            held_out_matches(matrix, weights),
            (matrix.pair.layers_a, matrix.pair.layers_b),
            strict=True,
        )
    )
    return first, second


def layer_numbers(
    way: HeldOut, layers: Sequence[Layer], weights: Int[np.ndarray, "resamples blocks"]
) -> dict[str, Number]:
    """How alike each layer is to its best match, by its name."""
    columns = zip(way.values, way.replicates.T, way.repaired.T, strict=True)
    return {
        layers[position].name: Number(float(value), again, weights.shape[1], repaired)
        for position, (value, again, repaired) in zip(way.positions, columns, strict=True)
    }


def cell_number(
    matrix: LayerMatrix, layer_a: str, layer_b: str, weights: Int[np.ndarray, "resamples blocks"]
) -> Number:
    """One cell of a matrix.

    Raises:
        InputError: if a network has no such layer.
    """
    pair = matrix.pair
    places = []
    for network, layers, name in (
        (pair.network_a, pair.layers_a, layer_a),
        (pair.network_b, pair.layers_b, layer_b),
    ):
        names = [layer.name for layer in layers]
        check_choice(f"layer of {network}", name, names)
        places.append(names.index(name))
    row, column = places
    return Number(
        float(matrix.values[row, column]),
        matrix.estimate.replicates(weights)[:, row, column],
        weights.shape[1],
        matrix.repaired[:, row, column],
    )


def ceiling_number(ceilings: Estimate, weights: Int[np.ndarray, "resamples blocks"]) -> Number:
    """The mean of the ceilings of the trunk layers of a network."""
    again = ceilings.replicates(weights).mean(axis=1)
    return Number(float(ceilings.value.mean()), again, weights.shape[1], np.empty(0))


def share_numbers(own: Number, ceilings: Sequence[Number]) -> dict[str, Number]:
    """`ceiling`, the mean over the layers of both networks, and a similarity's share of it.

    A yardstick, not a bound: the halves have fewer training images than either network.

    Args:
        own: the similarity of a pair.
        ceilings: of either network, see `ceiling_number`.
    """
    ceiling = mean_number(list(ceilings))
    again, nothing = ceiling.replicates, np.empty(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(again > 0, own.replicates / again, np.nan)
    value = own.value / ceiling.value if ceiling.value > 0 else float("nan")
    return {
        "ceiling": Number(ceiling.value, again, own.num_blocks, nothing),
        "share_of_ceiling": Number(value, share, own.num_blocks, nothing),
    }


def null_difference(number: Number, twin: Number | None) -> dict[str, float]:
    """What random twins give, and by how many standard errors of the difference it differs."""
    if twin is None:
        return {"random": float("nan"), "z_random": float("nan")}
    difference = number - twin
    z = difference.value / difference.stderr if difference.stderr > 0 else float("nan")
    return {"random": twin.value, "z_random": z}
