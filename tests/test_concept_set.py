import pytest
import torch

from cavalcade.concepts import ConceptSet, LayerConcepts
from cavalcade.errors import InputError


def some_set():
    g = torch.Generator().manual_seed(0)
    plain = LayerConcepts(
        names=("sky", "road"),
        vectors=torch.randn(2, 5, generator=g),
        bias=torch.randn(2, generator=g),
        thresholds=torch.tensor([0.5, torch.nan]),
    )
    quantile = LayerConcepts(
        names=("sky",),  # K may differ between layers
        vectors=torch.randn(1, 3, generator=g),
        bias=torch.zeros(1),
        thresholds=torch.zeros(1),
        transform="quantile",
        transform_tensors={"quantiles": torch.tensor([0.1, 0.2, 0.3])},
    )
    return ConceptSet({"layer1.0": plain, "layer2": quantile})


def test_round_trip_keeps_order_and_every_tensor(tmp_path):
    concepts = some_set()
    concepts.save(tmp_path / "c.safetensors")
    loaded = ConceptSet.load(tmp_path / "c.safetensors")
    assert list(loaded.layers) == ["layer1.0", "layer2"]
    for name, layer in concepts.layers.items():
        other = loaded.layers[name]
        assert (layer.names, layer.kind, layer.transform) == (
            other.names,
            other.kind,
            other.transform,
        )
        torch.testing.assert_close(layer.thresholds, other.thresholds, equal_nan=True)
        assert torch.equal(layer.vectors, other.vectors)
        assert layer.transform_tensors.keys() == other.transform_tensors.keys()


def test_encode_is_the_linear_map_of_the_transformed_input():
    concepts = some_set()
    activations = {"layer1.0": torch.randn(2, 5, 4, 3), "layer2": torch.rand(2, 3, 2, 2)}
    maps = concepts.encode(activations)
    plain, quantile = concepts.layers.values()
    reference = torch.einsum("kc,ichw->ikhw", plain.vectors, activations["layer1.0"])
    torch.testing.assert_close(maps["layer1.0"], reference + plain.bias[:, None, None])
    binary = (activations["layer2"] > torch.tensor([0.1, 0.2, 0.3])[:, None, None]).float()
    reference = torch.einsum("kc,ichw->ikhw", quantile.vectors, binary)
    torch.testing.assert_close(maps["layer2"], reference)


def test_unknown_kind_is_an_error():
    with pytest.raises(InputError, match="kind of concepts is 'magic'"):
        LayerConcepts(("a",), torch.zeros(1, 1), torch.zeros(1), torch.zeros(1), kind="magic")
