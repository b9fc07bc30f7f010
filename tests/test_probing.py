"""What the settings of probes mean, and which are refused."""

import pytest
import torch

from cavalcade.concepts import Probes
from cavalcade.concepts.probing import STRENGTH, STRENGTHS
from cavalcade.errors import InputError
from tiny import streamed

SIZES = {"train": 100, "val": 10, "test": 1000}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fit": "both"}, "concepts.fit is 'both', which is none of one_pass, stream"),
        (
            {"loss": "net2vec"},
            "concepts.loss=net2vec cannot be fitted in one pass; set concepts.fit=stream",
        ),
        (
            {"input": "quantile"},
            "concepts.input=quantile cannot be fitted in one pass; set concepts.fit=stream",
        ),
        ({"rows": 0}, "concepts.rows is 0; give a whole number from 1 up"),
        ({"l2": 0.0}, "concepts.l2 is 0.0; give one number above 0, or several"),
        ({"l2": float("inf")}, "concepts.l2 is inf; give one number above 0, or several"),
        ({"l2": float("nan")}, "concepts.l2 is nan; give one number above 0, or several"),
        ({"l2": []}, r"concepts.l2 is \[\]; give one number above 0, or several"),
        ({"l2": [0.1, -1.0]}, r"concepts.l2 is \[0.1, -1.0\]; give one number above 0, or several"),
        (
            {"fit": "stream", "l2": [0.1, 0.01]},
            r"concepts.l2 is \[0.1, 0.01\], and concepts.fit=stream takes one number; give one, or",
        ),
    ],
)
def test_what_cannot_be_fitted_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        Probes(**options)


def test_strengths_are_those_given_or_some():
    assert Probes().strengths == STRENGTHS
    assert Probes(l2=[0.5, 0.1, 0.5]).strengths == (0.1, 0.5)
    assert Probes(l2=[0.5, 0.1]).identity() == Probes(l2=[0.1, 0.5]).identity()
    assert Probes(l2=0.5).strengths == streamed(l2=[0.5]).strengths == (0.5,)
    assert streamed().strengths == (STRENGTH,)


def test_settings_of_another_way_to_fit_are_no_part_of_the_identity():
    other = {"epochs": 9, "optimizer": torch.optim.SGD}
    assert Probes(**other).identity() == Probes().identity()
    assert streamed(rows=7).identity() == streamed().identity()
    assert Probes(rows=7).identity() != Probes().identity()
    assert streamed(epochs=9).identity() != streamed().identity()
    assert Probes(l2=list(STRENGTHS)).identity() == Probes().identity()
    assert Probes(l2=0.1).identity() != Probes().identity()
    assert Probes(l2=STRENGTH).identity() != streamed().identity()


def test_images_that_go_through_the_network_are_counted():
    assert Probes().images_seen(SIZES) == 100 + 2 * 10 + 1000
    assert streamed(epochs=5).images_seen(SIZES) == 100 * 7 + 10 * 6 + 1000
    assert streamed(epochs=5, threshold=0.5).images_seen(SIZES) == 100 * 6 + 10 * 6 + 1000


def test_only_a_stream_goes_on_from_a_checkpoint():
    assert Probes().checkpoint is None
    assert streamed().checkpoint == "checkpoints/last.ckpt"
