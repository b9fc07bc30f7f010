"""What is noted of activations is noted of images, not of the padding around them."""

import torch

from cavalcade.concepts.survey import ChannelMoments, ChannelQuantiles
from cavalcade.data.geometry import WHOLE, cells_inside

PADDED = (0.0, 0.0, 2.0, 2.0)  # the image is the upper left quarter of what the network sees


def padded(images):
    """Activations of images, and the same with as much padding as detectors may add."""
    bare = torch.rand(images, 3, 8, 8)
    around = torch.full((images, 3, 16, 16), 7.0)
    around[:, :, :8, :8] = bare
    return bare, around


def inside(frame, activations):
    return cells_inside(torch.tensor([frame]).expand(len(activations), 4), activations.shape[2:])


def test_moments_are_those_of_the_bare_image():
    bare, around = padded(4)
    results = []
    for frame, activations in ((WHOLE, bare), (PADDED, around)):
        moments = ChannelMoments(3)
        moments.update(*moments.look(activations, inside(frame, activations), torch.arange(4)))
        results.append(torch.stack(moments.compute()))
    torch.testing.assert_close(results[0], results[1])


def test_quantiles_are_those_of_the_bare_image():
    bare, around = padded(50)
    quantiles = []
    for frame, activations, rows in ((WHOLE, bare, 64), (PADDED, around, 256)):
        channels = ChannelQuantiles(3, rows)
        seen = channels.look(activations, inside(frame, activations), torch.arange(50))
        channels.update(*seen)
        quantiles.append(channels.compute()[0])
    assert torch.equal(*quantiles)
