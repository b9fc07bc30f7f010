"""What the settings of probes mean, and which are refused."""

from functools import partial

import pytest
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate

from cavalcade.cli import user_error
from cavalcade.concepts import Probes
from cavalcade.concepts.probing import ADAM, EPOCHS, FITS, ROWS, STRENGTH, STRENGTHS
from cavalcade.errors import InputError
from test_config import composed
from tiny import streamed

SIZES = {"train": 100, "val": 10, "test": 1000}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fit": "both"}, "concepts.fit is 'both'; give one of one_pass, stream"),
        (
            {"loss": "net2vec"},
            "concepts.loss=net2vec cannot be fitted in one pass; set concepts.fit=stream",
        ),
        (
            {"input": "quantile"},
            "concepts.input=quantile cannot be fitted in one pass; set concepts.fit=stream",
        ),
        (
            {"epochs": 60},
            r"concepts.epochs has no effect with concepts.fit=one_pass; leave it out, set "
            r"concepts.epochs=null \(where a preset gives it\), or concepts.fit=stream",
        ),
        ({"epochs": EPOCHS}, "concepts.epochs has no effect with concepts.fit=one_pass"),
        (
            {"optimizer": partial(torch.optim.Adam, lr=0.1)},
            "concepts.optimizer has no effect with concepts.fit=one_pass",
        ),
        ({"optimizer": torch.optim.Adam}, "concepts.optimizer has no effect with"),
        (
            {"fit": "stream", "rows": 1000},
            r"concepts.rows has no effect with concepts.fit=stream; leave it out, set "
            r"concepts.rows=null \(where a preset gives it\), or concepts.fit=one_pass",
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


@pytest.mark.parametrize("fit", FITS)
def test_probes_by_default_are_those_of_the_config(fit):
    made = instantiate(composed("train", f"concepts.fit={fit}").concepts, _convert_="all")
    assert made.identity() == Probes(fit=fit).identity()


def test_an_optimizer_of_the_config_is_refused_where_it_has_no_effect():
    config = composed("train", "concepts.optimizer.lr=0.1").concepts
    with pytest.raises(InstantiationException) as raised:
        instantiate(config, _convert_="all")
    assert "concepts.optimizer has no effect with" in user_error(raised.value)
    config.fit = "stream"
    optimizer = instantiate(config, _convert_="all").identity()["optimizer"]
    assert optimizer == {"name": "torch.optim.adam.Adam", "lr": 0.1}


def test_the_identity_has_what_the_way_to_fit_takes():
    assert Probes(rows=ROWS, optimizer=ADAM).identity() == Probes().identity()
    assert Probes(rows=1000).identity() == Probes().identity() | {"rows": 1000}
    assert not {"epochs", "optimizer"} & set(Probes().identity())
    given = Probes(fit="stream", epochs=EPOCHS, optimizer=ADAM).identity()
    assert Probes(fit="stream").identity() == given
    assert given["epochs"] == EPOCHS
    assert "rows" not in given
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
    assert Probes().checkpoints is None
    assert streamed().checkpoints == "checkpoints"
