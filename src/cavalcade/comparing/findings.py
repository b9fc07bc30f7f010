"""The two findings of Mikriukov et al. 2023 as numbers, and one sentence that they support."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from cavalcade.comparing.analysis import Analysis, Names
from cavalcade.similarity import FEATURE_MEASURES, MEASURE_TITLES
from cavalcade.similarity.derived import Number, mean_number

ROUNDING = 1e-4  # images that are all the same leave rounding alone

_summaries: WeakKeyDictionary[Analysis, dict[str, Any]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Finding:
    """One number over all pairs of trained networks, against both nulls.

    Attributes:
        number: the mean over pairs.
        less_repaired: the same less that of re-paired images.
        twins: the mean over the pairs of their random twins; None without any.
        larger: whether the finding needs it to be larger than the nulls.
    """

    number: Number
    less_repaired: Number
    twins: Number | None
    larger: bool

    @property
    def beyond_repaired(self) -> bool:
        """Whether it lies beyond every re-pairing, and its difference from their mean beyond 0.

        Of the difference the whole interval: it knows the spread of test images, but not that of
        re-pairings, where of few layers some may match in order by chance.
        """
        low, high = self.less_repaired.interval
        beyond_mean = low > ROUNDING if self.larger else high < -ROUNDING
        return bool(beyond_mean and self.as_extreme == 0)

    @property
    def as_extreme(self) -> int:
        """How many re-pairings give as much."""
        value, repaired = self.number.value, self.number.repaired
        return int((repaired >= value if self.larger else repaired <= value).sum())

    @property
    def beyond_random(self) -> bool | None:
        """Whether the whole interval of the difference from random twins lies beyond 0."""
        if self.twins is None:
            return None
        low, high = (self.number - self.twins).interval
        return bool(low > 0 if self.larger else high < 0)

    @property
    def supported(self) -> bool:
        """Whether it lies beyond every null there is."""
        return self.beyond_repaired and self.beyond_random is not False

    def described(self) -> dict[str, Any]:
        """As plain numbers."""
        found: dict[str, Any] = self.number.row()
        found |= {"repairings_as_extreme": self.as_extreme}
        found |= {"beyond_repaired": self.beyond_repaired, "beyond_random": self.beyond_random}
        if self.twins is not None:
            low, high = (self.number - self.twins).interval
            found |= {
                "random": self.twins.value,
                "less_random": {"low": low, "high": high},
            }
        return found | {"supported": self.supported}

    def text(self, digits: int = 2) -> str:
        """The number with its interval."""
        low, high = self.number.interval
        return f"{self.number.value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def summarise(analysis: Analysis) -> dict[str, Any]:
    """What `summary.json` says of numbers: findings, the sentence, and a number for each pair."""
    # once: the folder, tracking and the last line of the program say the same
    if analysis not in _summaries:
        _summaries[analysis] = _summary(analysis)
    return _summaries[analysis]


def _summary(analysis: Analysis) -> dict[str, Any]:
    comparison = analysis.comparison
    names = trained_pairs(analysis)
    summary: dict[str, Any] = {
        "similarity": analysis.similarity,
        "networks": [
            {"name": name, "random": comparison.random[name]} for name in comparison.networks
        ],
        "blocks": comparison.num_blocks,
        "intervals": "95 %, over blocks of test images, for the concepts as they were fitted",
        "pairs_of_trained_networks": len(names),
        "different_architectures": _different_architectures(analysis, names),
    }
    found = findings(analysis, names)
    summary["findings"] = {name: finding.described() for name, finding in found.items()}
    summary["sentence"] = sentence(analysis, names, found)
    summary["similarity_of_pairs"] = {
        f"{a}|{b}": number.row() for (a, b), number in analysis.networks.pairs.items()
    }
    summary["flow"] = {
        network: {name: number.row() for name, number in flow.distances(analysis.weights).items()}
        for network, flow in analysis.flows.items()
    }
    return _without_nan(summary)


def trained_pairs(analysis: Analysis) -> list[Names]:
    """Pairs of trained networks of different architecture, or all of them if there are none.

    A network that was probed or mined twice is no pair.
    """
    comparison, weights = analysis.comparison, analysis.comparison.weights
    trained = [
        (a, b)
        for a, b in analysis.networks.pairs
        if not (comparison.random[a] or comparison.random[b])
        and (a not in weights or weights[a] != weights[b])
    ]
    different = [n for n in trained if _different_architectures(analysis, [n])]
    return different or trained


def findings(analysis: Analysis, names: Sequence[Names]) -> dict[str, Finding]:
    """Both findings over some pairs; empty where there is nothing to say."""
    found = {}
    for statistic, larger in (
        ("similarity", True),
        ("depth_gap", False),
        ("rank_correlation", True),
    ):
        numbers = analysis.numbers[analysis.similarity]
        own = [numbers[pair][statistic] for pair in names]
        if not own or not all(np.isfinite(number.value) for number in own):
            continue
        twins = [analysis.twin_numbers(analysis.similarity, pair) for pair in names]
        null = None
        if all(twin is not None for twin in twins):
            null = mean_number([twin[statistic] for twin in twins if twin is not None])
        number = mean_number(own)
        # chance is taken off the similarity already
        beyond = number if statistic == "similarity" else number.less_repaired
        found[statistic] = Finding(number, beyond, null, larger)
    return found


def sentence(analysis: Analysis, names: Sequence[Names], found: dict[str, Finding]) -> str:
    """Both findings in words; claims nothing that the numbers do not support."""
    if not names:
        return "Fewer than two trained networks were compared, so neither finding can be tested."
    if "similarity" not in found:
        return (
            "No concept is defined in all networks, or chance was not sampled (repairings=), so "
            "neither finding can be tested."
        )
    differ = _different_architectures(analysis, names)
    pairs = "1 pair" if len(names) == 1 else f"{len(names)} pairs"
    what = "of trained networks of different architecture" if differ else "of trained networks"
    noun = "concepts" if analysis.similarity not in FEATURE_MEASURES else "representations"
    alike = found["similarity"]
    first = (
        f"Over {pairs} {what}, the mean {MEASURE_TITLES[analysis.similarity]} of layers and their "
        f"best matches is {alike.text()} above chance{_of_twins(alike, 2)}: {_first(alike, noun)}."
    )
    if "depth_gap" not in found or "rank_correlation" not in found:
        return f"{first} Too few layers are defined to compare their depths."
    gap, ranks = found["depth_gap"], found["rank_correlation"]
    return (
        f"{first} Best matches lie {gap.text(3)} of relative depth apart, against "
        f"{gap.number.null:.3f} for re-paired images{_of_twins(gap, 3)}, with a rank correlation "
        f"of {ranks.text()}{_of_twins(ranks, 2)}: {_second(alike, gap, ranks, noun)}."
    )


def _of_twins(finding: Finding, digits: int) -> str:
    if finding.twins is None:
        return ""
    return f" (random twins: {finding.twins.value:.{digits}f})"


WITHOUT_TWINS = (
    "without a pair of random twins (backbone.weights=random for each architecture) this does "
    "not show that they learnt"
)


def _first(alike: Finding, noun: str) -> str:
    if not alike.supported:
        return f"this does not show that they learnt similar {noun}"
    if alike.twins is None:
        return f"their {noun} are more alike than by chance, but {WITHOUT_TWINS} them"
    return f"they learnt similar {noun}"


def _second(alike: Finding, gap: Finding, ranks: Finding, noun: str) -> str:
    if not (alike.supported and gap.supported and ranks.supported):
        return f"this does not show that similar {noun} lie at similar relative depth"
    if alike.twins is None:
        return (
            f"similar {noun} lie at more similar relative depth than by chance, but "
            f"{WITHOUT_TWINS} this"
        )
    return f"similar {noun} lie at similar relative depth"


def _different_architectures(analysis: Analysis, names: Sequence[Names]) -> bool:
    digests = analysis.comparison.architectures
    return bool(names) and all(digests[a] != digests[b] for a, b in names)


def _without_nan(value: Any) -> Any:  # noqa: ANN401
    """The same with None for NaN, which JSON does not know."""
    if isinstance(value, dict):
        return {key: _without_nan(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_without_nan(entry) for entry in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
