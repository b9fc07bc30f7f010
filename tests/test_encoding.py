"""What is recorded of a layer is recorded of the image, not of the padding around it."""

import torch

from cavalcade.concepts.encoding import pooled
from cavalcade.data.geometry import WHOLE


def test_padding_is_no_part_of_pooled_features():
    activations = torch.rand(2, 3, 4, 6)
    frames = torch.tensor([[-0.5, 0.0, 1.5, 1.0], [0.0, 0.0, 1.0, 2.0]])
    features = pooled(activations, frames)
    torch.testing.assert_close(features[0], activations[0, :, 1:3].mean(dim=(1, 2)))
    torch.testing.assert_close(features[1], activations[1, :, :, :3].mean(dim=(1, 2)))
    activations[0, :, 0] = activations[1, :, :, 4] = 9.0
    torch.testing.assert_close(pooled(activations, frames), features)


def test_without_padding_it_is_the_mean():
    activations = torch.rand(2, 3, 4, 6)
    frames = torch.tensor([WHOLE, (0.25, 0.25, 0.75, 0.75)])
    assert torch.equal(pooled(activations, frames), activations.mean(dim=(2, 3)))


def test_of_one_large_cell_all_counts():
    activations = torch.rand(1, 3, 1, 1)
    features = pooled(activations, torch.tensor([[0.0, 0.0, 1.0, 3.0]]))
    torch.testing.assert_close(features, activations[:, :, 0, 0])
