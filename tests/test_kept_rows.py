"""Rows come back as they were added, in the order of the images, whatever was expected."""

from dataclasses import dataclass

import pytest
import torch

from cavalcade import processes
from cavalcade.concepts.kept_rows import KeptRows


@dataclass(frozen=True)
class Origins:
    images: torch.Tensor


LAYERS = {"a": "coarse", "b": "fine", "c": "coarse"}


def part(*images):
    """Some rows of every layer; each row of a layer is the number of its image."""
    own = torch.tensor(images)
    origins = {"coarse": Origins(own), "fine": Origins(own.repeat_interleave(2))}
    rows = {
        layer: origins[group].images[:, None].float() * torch.ones(3 + len(layer))
        for layer, group in LAYERS.items()
    }
    return origins, rows


def kept(*parts, expected):
    rows = KeptRows(LAYERS, {"coarse": expected, "fine": expected})
    for own in parts:
        rows.add(*part(*own))
    return rows


@pytest.mark.parametrize("expected", [0, 1, 4, 1000])
def test_rows_come_back_whatever_was_expected(expected):
    rows = kept([0, 1], [], [2], [3, 4, 5], expected=expected)
    for layer, group in LAYERS.items():
        origins, activations = rows.of(layer)
        whole, own = part(0, 1, 2, 3, 4, 5)
        assert torch.equal(origins.images, whole[group].images)
        assert torch.equal(activations, own[layer])


def test_rows_come_back_in_the_order_of_the_images():
    rows = kept([4, 5], [0, 2], [1, 3], expected=6)
    for layer in LAYERS:
        origins, activations = rows.of(layer)
        assert origins.images.tolist() == sorted(origins.images.tolist())
        assert torch.equal(activations[:, 0], origins.images.float())


def test_rows_can_be_asked_for_once_and_none_were_kept_of_nothing():
    rows = kept([0, 1], expected=2)
    assert rows.of("a") is not None
    with pytest.raises(KeyError):  # else it would look as if none were kept
        rows.of("a")
    assert kept(expected=2).of("b") is None


def test_what_is_sent_between_processes_is_what_was_kept_and_origins_go_once(monkeypatch):
    """Of memory for a thousand rows two are sent; seen by the process that owns every layer."""
    mine, theirs = kept([1, 3], expected=1000), kept([0, 2], expected=1000)
    sent = []

    def gathered(own, to):
        assert to == 0
        tensor = own.images if isinstance(own, Origins) else own
        sent.append(tensor.untyped_storage().nbytes() - tensor.nbytes)
        other = others.pop(0)
        return [own, other]

    others = [theirs._origins[group].all() for group in ("coarse", "fine")]
    others += [theirs._activations[layer].all() for layer in LAYERS]
    monkeypatch.setattr(processes, "count", lambda: 2)
    monkeypatch.setattr(processes, "owner", lambda _: 0)
    monkeypatch.setattr(processes, "gathered", gathered)
    mine.gather()
    assert sent == [0] * 5  # two groups, three layers
    for layer in LAYERS:
        origins, activations = mine.of(layer)
        assert sorted(set(origins.images.tolist())) == [0, 1, 2, 3]
        assert torch.equal(activations[:, 0], origins.images.float())
