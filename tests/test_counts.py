import numpy as np
import pytest
import torch
from sklearn.metrics import jaccard_score

from cavalcade.similarity import JointCounts, PixelCounts


def random_masks(seed, images=12, groups=2, rows=3, pixels=30, density=0.3):
    g = torch.Generator().manual_seed(seed)
    seen = torch.rand(images, pixels, generator=g) < 0.8
    masks = torch.rand(images, groups, rows, pixels, generator=g) < density
    return masks & seen[:, None, None], seen


def counted(a, seen_a, b, seen_b, blocks):
    joint = JointCounts(max(blocks) + 1, a.shape[1], a.shape[2], b.shape[2], a.shape[3])
    for block in sorted(set(blocks)):
        part = torch.tensor([i for i, other in enumerate(blocks) if other == block])
        joint.update(block, a[part], b[part], seen_a[part], seen_b[part])
    return joint


def test_jaccard_agrees_with_scikit_learn_on_jointly_seen_pixels():
    (a, seen_a), (b, seen_b) = random_masks(0), random_masks(1, rows=4)
    jaccard = counted(a, seen_a, b, seen_b, [0] * 5 + [1] * 7).jaccard()
    both = (seen_a & seen_b).flatten().numpy()
    for group in range(2):
        for i in range(3):
            for j in range(4):
                x = a[:, group, i].flatten().numpy()[both]
                y = b[:, group, j].flatten().numpy()[both]
                assert jaccard[group, i, j].item() == pytest.approx(jaccard_score(x, y), abs=1e-12)


def test_counts_are_kept_per_block():
    (a, seen_a), (b, seen_b) = random_masks(0), random_masks(1)
    joint = counted(a, seen_a, b, seen_b, [0] * 5 + [1] * 7)
    first = (a[:5, :, :, None] & b[:5, :, None]).sum(dim=(0, 4))
    assert torch.equal(joint.intersection[0], first)
    second = (a[5:] & seen_b[5:, None, None]).sum(dim=(0, 3))
    assert torch.equal(joint.area_a[1], second)
    assert torch.equal(joint.joint[1], (seen_a & seen_b)[5:].sum(dim=0))


def test_symmetry_and_diagonal():
    a, seen = random_masks(3)
    jaccard = counted(a, seen, a, seen, [0] * 12).jaccard()
    assert torch.equal(jaccard, jaccard.transpose(1, 2))
    assert (jaccard.diagonal(dim1=1, dim2=2) == 1).all()


def test_blind_to_the_order_of_images():
    (a, seen_a), (b, seen_b) = random_masks(0), random_masks(1)
    order = torch.from_numpy(np.random.default_rng(0).permutation(12))
    one = counted(a, seen_a, b, seen_b, [0] * 12).jaccard()
    other = counted(a[order], seen_a[order], b[order], seen_b[order], [0] * 12).jaccard()
    assert torch.equal(one, other)


def test_two_empty_masks_are_not_defined():
    (a, seen_a), (b, seen_b) = random_masks(0), random_masks(1)
    a[:, 0, 0] = False
    b[:, 0, 1] = False
    jaccard = counted(a, seen_a, b, seen_b, [0] * 12).jaccard()
    assert jaccard[0, 0, 1].isnan()
    assert jaccard[0, 0, 0] == 0
    assert not jaccard[1].isnan().any()


def test_exact_beyond_the_integers_of_float32():
    images, pixels = 9, 2**21  # 9 · 2^21 - 1 is no float32
    masks = torch.ones(images, 1, 1, pixels, dtype=torch.bool)
    masks[-1, 0, 0, -1] = False
    seen = torch.ones(images, pixels, dtype=torch.bool)
    joint = counted(masks, seen, masks, seen, [0] * images)
    assert joint.intersection.item() == images * pixels - 1


def test_pixel_counts_are_images_per_block():
    a, seen = random_masks(0)
    counts = PixelCounts(2, 2, 3, 30)
    counts.update(0, a[:5], seen[:5])
    counts.update(1, a[5:], seen[5:])
    assert torch.equal(counts.fired[1], a[5:].sum(dim=0).int())
    assert torch.equal(counts.seen[0], seen[:5].sum(dim=0).int())
