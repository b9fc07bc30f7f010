"""Established measures of how alike layers are, from pooled features: nothing but a baseline.

Each layer is a matrix of images and channels. All measures are 1 for layers that are equal up
to what the measure is blind to, and never above it; each network is prepared once, then paired
with any other.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int

from cavalcade.errors import InputError, check_choice
from cavalcade.similarity import canonical, kernels
from cavalcade.similarity.estimates import Estimate
from cavalcade.similarity.prepared import Prepared

FEATURE_MEASURES: dict[str, Callable[..., Prepared]] = {
    "cka": kernels.prepare_cka,
    "cka_unbiased": kernels.prepare_cka_unbiased,
    "rsa": kernels.prepare_rsa,
    "rsa_spearman": kernels.prepare_rsa_spearman,
    "knn": kernels.prepare_knn,
    "procrustes": canonical.prepare_procrustes,
    "svcca": canonical.prepare_canonical,
    "pwcca": canonical.prepare_canonical,
}


def prepare(measure: str, features: Sequence[Float[np.ndarray, "images _"]]) -> Prepared:
    """Make all layers of one network ready to be compared by one measure.

    What the measures are, for features X, Y of n images, channels centred where not said
    otherwise, and what a rotation, a common scale and a shift of the channels do to them:

    - `cka`: linear centred kernel alignment, |X'Y|^2 / (|X'X| |Y'Y|) in Frobenius norms. From 0;
      blind to all three. High for few images and many channels, also of unrelated layers
      (Kornblith et al. 2019, eq. 2).
    - `cka_unbiased`: the same from HSIC_1, which averages 0 for unrelated layers and can be
      below it; NaN for fewer than four images (Song et al. 2012; Nguyen et al. 2021, eq. 3).
    - `rsa`, `rsa_spearman`: Pearson and Spearman correlation, over all pairs of images, of
      1 - Pearson correlation between the channels of the two images, which are not centred.
      From -1; blind to scale alone, and to a shift that is the same for all channels. NaN for
      layers of one channel, and where all channels of any image are equal (Kriegeskorte et
      al. 2008).
    - `knn`: share of the 10 images nearest to each image in both layers, by the cosine of
      uncentred features; of n - 2 where there are fewer than 12 images, and NaN under three.
      From 0, by chance 10 / (n - 1); blind to rotation and scale. Ties go to the image that
      comes first; NaN for layers of one channel, which are all ties, and where any image is
      all zero (Huh et al. 2024).
    - `procrustes`: nuclear norm of X'Y over |X| |Y|. Above 0; blind to all three. The distance
      after the best rotation of layers of norm 1 is sqrt(2 - 2 s), the angle arccos s; the
      narrower layer counts as padded with zeros (Williams et al. 2021; Ding et al. 2021).
    - `svcca`: mean canonical correlation between the fewest principal directions that explain
      99% of each layer's variance, over as many as the layer with fewer of them has. From 0;
      blind to all three. Tends to 1 as the directions of both approach the images in number
      (Raghu et al. 2017).
    - `pwcca`: the same directions, each correlation weighted by how much of the channels its
      variate accounts for; the mean of the weights of either layer, so that it is symmetric,
      where Morcos et al. 2018 take those of the first. Blind to scale and shift. Where the
      directions of both outnumber the images, some correlations are 1 whatever the layers, and
      the weights among these a matter of rounding.

    A layer that is constant or holds a value that is not finite gives NaN.

    >>> layers = [np.array([[0.0, 1.0], [2.0, 0.0], [1.0, 5.0], [3.0, 3.0]])]
    >>> turned = [layers[0] @ np.array([[0.0, 1.0], [-1.0, 0.0]])]
    >>> one, two = prepare("procrustes", layers), prepare("procrustes", turned)
    >>> bool(np.isclose(one.similarity(two), 1.0).all())
    True

    Args:
        measure: one of `FEATURE_MEASURES`.
        features: pooled features of each layer; any number of channels.

    Raises:
        InputError: if there is no such measure.
    """
    check_choice("similarity measure", measure, FEATURE_MEASURES)
    return FEATURE_MEASURES[measure](measure, features)


def feature_similarity(a: Prepared, b: Prepared, blocks: Int[np.ndarray, " images"]) -> Estimate:
    """Similarity of every layer of one network with every layer of another.

    Swapping the networks transposes it. What it would be without a block is exact: all that
    depends on the images, such as means, ranks, neighbours and directions, is without it too.

    Args:
        a: layers of the rows.
        b: layers of the columns, on the same images in the same order.
        blocks: block of each image, numbered from 0; NaN for the block that holds all.

    Raises:
        InputError: if the two were not prepared for one measure and as many images.
    """
    _check_comparable(a, b, len(blocks))
    return a.estimate(b, blocks)


def _check_comparable(a: Prepared, b: Prepared, images: int) -> None:
    if a.measure != b.measure:
        raise InputError(f"layers prepared for {a.measure} cannot be compared by {b.measure}")
    if not a.num_images == b.num_images == images:
        raise InputError(
            f"features are of {a.num_images} and {b.num_images} images and blocks or order of "
            f"{images}: layers can be compared on the same images alone"
        )
