import numpy as np
import pytest
from scipy.cluster.hierarchy import dendrogram, linkage
from scipy.spatial.distance import squareform

from cavalcade.errors import InputError
from cavalcade.similarity.derived import Number
from cavalcade.similarity.networks import NetworkMatrix

NAMES = ("vgg", "resnet", "vit", "swin")
PLANTED = {
    ("vgg", "resnet"): 0.8,
    ("vgg", "vit"): 0.3,
    ("vgg", "swin"): 0.35,
    ("resnet", "vit"): 0.3,
    ("resnet", "swin"): 0.25,
    ("vit", "swin"): 0.7,
}


def network_matrix(values, spread=0.0, seed=0, resamples=400):
    """Similarities with errors of `spread`, independent of each other."""
    rng = np.random.default_rng(seed)
    names = tuple(name for name in NAMES if any(name in key for key in values))
    pairs = {
        key: Number(value, value + spread * rng.normal(size=resamples), 21, np.empty(0))
        for key, value in values.items()
    }
    return NetworkMatrix(names, pairs)


def leaves_of(tree):
    """The leaves below each merge."""
    members = [{k} for k in range(len(tree.networks))]
    for left, right in tree.linkage[:, :2].astype(int):
        members.append(members[left] | members[right])
    return [frozenset(tree.networks[k] for k in part) for part in members[len(tree.networks) :]]


def test_a_pair_is_found_in_either_order():
    one = network_matrix(PLANTED)
    for (a, b), value in PLANTED.items():
        assert one[a, b].value == one[b, a].value == value


@pytest.mark.parametrize("names", [("vgg", "vgg"), ("vgg", "alexnet")])
def test_what_is_not_in_the_matrix_is_an_error(names):
    with pytest.raises(InputError, match=f"no pair of '{names[0]}' and '{names[1]}'"):
        network_matrix(PLANTED)[names]


def test_frame_is_symmetric_and_carries_its_names():
    frame = network_matrix(dict(reversed(PLANTED.items()))).frame()
    assert tuple(frame.index) == tuple(frame.columns) == NAMES
    assert np.isnan(np.diag(frame)).all()
    for (a, b), value in PLANTED.items():
        assert frame.loc[a, b] == frame.loc[b, a] == value


@pytest.mark.parametrize("seed", range(5))
def test_linkage_is_that_of_scipy_on_the_frame(seed):
    rng = np.random.default_rng(seed)
    one = network_matrix(dict(zip(PLANTED, rng.random(6), strict=True)))
    distances = 1 - one.frame().to_numpy()
    np.fill_diagonal(distances, 0)
    reference = linkage(squareform(distances), method="average")
    np.testing.assert_allclose(one.tree().linkage, reference)


def test_planted_clusters_are_found():
    tree = network_matrix(PLANTED).tree()
    assert tree.networks == NAMES
    assert leaves_of(tree) == [{"vgg", "resnet"}, {"vit", "swin"}, set(NAMES)]


def test_what_never_changes_is_fully_supported():
    assert network_matrix(PLANTED).tree().support == (1.0, 1.0, 1.0)


def test_support_is_the_share_of_resamples_with_the_same_cluster():
    close = {("vgg", "resnet"): 0.5, ("vgg", "vit"): 0.48, ("resnet", "vit"): 0.2}
    one = network_matrix(close, spread=0.02)
    first, second = (one[key].replicates for key in list(close)[:2])
    third = one["resnet", "vit"].replicates
    tree = one.tree()
    share = np.mean((first > second) & (first > third))
    assert 0.5 < share < 0.95
    assert tree.support == pytest.approx((share, 1.0))  # all networks are always one cluster


def test_support_follows_the_order_of_merges():
    """One of two clusters flips, the other stays."""
    values = {**PLANTED, ("vit", "swin"): 0.4}
    one = network_matrix(values, spread=0.05)
    tree = one.tree()
    support = dict(zip(leaves_of(tree), tree.support, strict=True))
    assert support[frozenset({"vgg", "resnet"})] == 1.0
    assert 0.3 < support[frozenset({"vit", "swin"})] < 0.98
    assert support[frozenset(NAMES)] == 1.0


def test_equal_networks_cluster_though_noise_lifts_them_above_one():
    tree = network_matrix({**PLANTED, ("vgg", "resnet"): 1.0007}, spread=0.001).tree()
    assert tree.linkage[0, 2] == 0
    assert leaves_of(tree)[0] == {"vgg", "resnet"}


def test_an_undefined_similarity_or_two_networks_have_no_tree():
    assert network_matrix({**PLANTED, ("vgg", "vit"): np.nan}).tree() is None
    assert network_matrix({("vgg", "vit"): 0.5}).tree() is None


@pytest.mark.parametrize("seed", range(5))
def test_a_tree_is_drawn_as_scipy_draws_it(seed):
    rng = np.random.default_rng(seed)
    tree = network_matrix(dict(zip(PLANTED, rng.random(6), strict=True))).tree()
    drawn, reference = tree.drawn(), dendrogram(tree.linkage, no_plot=True)
    assert list(drawn.order) == reference["leaves"]
    ours = sorted((*merge.heights, *merge.across) for merge in drawn.merges)
    theirs = sorted(
        (*heights, *((x - 5) / 10 for x in across))
        for heights, across in zip(reference["dcoord"], reference["icoord"], strict=True)
    )
    np.testing.assert_allclose(ours, theirs)


def test_merges_of_equal_height_keep_their_own_support():
    """Both pairs are equally alike; the resamples of one of them often make another cluster."""
    pairs = dict(network_matrix(PLANTED | {("vit", "swin"): 0.8}).pairs)
    shaken = np.where(np.arange(400) % 4 == 0, 0.1, 0.8)
    pairs["vit", "swin"] = Number(0.8, shaken, 21, np.empty(0))
    tree = NetworkMatrix(NAMES, pairs).tree()
    drawn = tree.drawn()
    heights = [merge.heights[1] for merge in drawn.merges]
    assert heights[0] == heights[1]
    support = {}
    for merge in drawn.merges[:2]:
        leaves = [drawn.order[round(place)] for place in (merge.across[0], merge.across[-1])]
        support[frozenset(NAMES[leaf] for leaf in leaves)] = merge.support
    assert support == {frozenset({"vgg", "resnet"}): 1.0, frozenset({"vit", "swin"}): 0.75}
