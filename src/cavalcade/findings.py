"""The two findings of Mikriukov et al. 2023 as numbers, and one sentence that they support."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cavalcade.analysis import Analysis, Names
from cavalcade.similarity.derived import Number, mean_number

TITLES = {
    "adjusted": "adjusted Jaccard index",
    "jaccard": "Jaccard index",
    "label_conditional": "label-conditional Jaccard index",
    "cka": "linear CKA",
    "cka_unbiased": "unbiased linear CKA",
    "rsa": "RSA (Pearson)",
    "rsa_spearman": "RSA (Spearman)",
    "procrustes": "Procrustes similarity",
    "knn": "mutual nearest neighbours",
    "svcca": "SVCCA",
    "pwcca": "PWCCA",
}


@dataclass(frozen=True)
class Finding:
    """One number over all pairs of trained networks, against both nulls.

    Attributes:
        number: the mean over pairs.
        twins: the mean over the pairs of their random twins; None without any.
        larger: whether the finding needs it to be larger than the nulls.
    """

    number: Number
    twins: Number | None
    larger: bool

    @property
    def beyond_repaired(self) -> bool:
        """Whether the whole interval lies beyond the mean over re-paired images."""
        low, high = self.number.interval
        return bool(low > self.number.null if self.larger else high < self.number.null)

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
    """What `summary.json` says: the findings, the sentence, and a number for each pair."""
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
    """Pairs of trained networks of different architecture, or all of them if there are none."""
    comparison = analysis.comparison
    trained = [
        names for names in analysis.networks.pairs if not any(comparison.random[n] for n in names)
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
        found[statistic] = Finding(mean_number(own), null, larger)
    return found


def sentence(analysis: Analysis, names: Sequence[Names], found: dict[str, Finding]) -> str:
    """Both findings in words; claims nothing that the numbers do not support."""
    if not names:
        return "Fewer than two trained networks were compared, so neither finding can be tested."
    if len(found) < 3:
        return "Too few layers or concepts are defined, so neither finding can be tested."
    differ = _different_architectures(analysis, names)
    pairs = "1 pair" if len(names) == 1 else f"{len(names)} pairs"
    what = "of trained networks of different architecture" if differ else "of trained networks"
    measure = TITLES.get(analysis.similarity, analysis.similarity)
    alike, gap, ranks = (found[name] for name in ("similarity", "depth_gap", "rank_correlation"))
    against_twins = [
        "" if each.twins is None else f" (random twins: {each.twins.value:.{digits}f})"
        for each, digits in ((alike, 2), (gap, 3))
    ]
    first = (
        f"Over {pairs} {what}, the mean {measure} of layers and their best matches is "
        f"{alike.text()} above that of re-paired images{against_twins[0]}: {_first(alike)}."
    )
    second = (
        f"Best matches lie {gap.text(3)} of relative depth apart, against "
        f"{gap.number.null:.3f} for re-paired images{against_twins[1]}, with a rank correlation of "
        f"{ranks.text()}: {_second(gap, ranks)}."
    )
    return f"{first} {second}"


def _first(alike: Finding) -> str:
    if not alike.supported:
        return "this does not show that they learnt similar concepts"
    if alike.twins is None:
        return (
            "their concepts are more alike than by chance, but without random twins "
            "(backbone.weights=random) this does not show that they learnt them"
        )
    return "they learnt similar concepts"


def _second(gap: Finding, ranks: Finding) -> str:
    if gap.supported and ranks.number.interval[0] > 0:
        return "similar concepts lie at the same relative depth"
    return "this does not show that they lie at the same relative depth"


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
