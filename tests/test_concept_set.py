import dataclasses
import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from scipy.optimize import nnls

from cavalcade.concepts import ConceptSet, LayerConcepts
from cavalcade.concepts.concept_set import apply_transform
from cavalcade.errors import InputError
from hardening import REFUSED


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


def mined(kind, channels=6, **options):
    g = torch.Generator().manual_seed(1)
    vectors = torch.rand(3, options.pop("inputs", channels), generator=g)
    bias = -vectors.square().sum(dim=1) / 2 if kind == "kmeans" else torch.zeros(3)
    return LayerConcepts(
        ("c1", "c2", "c3"), vectors, bias, torch.full((3,), 0.5), kind=kind, **options
    )


def pixels_of(maps):
    return maps.permute(0, 2, 3, 1).flatten(0, 2)


def test_codes_are_those_of_non_negative_least_squares():
    concepts = mined("nmf")
    activations = torch.rand(2, 6, 3, 4)
    maps = concepts.encode(activations)
    assert maps.shape == (2, 3, 3, 4)
    dictionary = concepts.vectors.T.double().numpy()
    for code, pixel in zip(pixels_of(maps), pixels_of(activations), strict=True):
        expected, _ = nnls(dictionary, pixel.double().numpy())
        np.testing.assert_allclose(code, expected, atol=1e-5)


def test_codes_are_exact_under_autocast():
    concepts, activations = mined("nmf"), torch.rand(1, 6, 4, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        maps = concepts.encode(activations)
    assert torch.equal(maps, concepts.encode(activations))


def test_a_pixel_belongs_to_the_nearest_centre():
    concepts = mined("kmeans")
    activations = torch.rand(2, 6, 5, 5)
    maps = pixels_of(concepts.encode(activations))
    distances = torch.cdist(pixels_of(activations), concepts.vectors) ** 2
    nearest, next_nearest = distances.sort(dim=1).values[:, :2].T
    assert torch.equal(maps.argmax(dim=1), distances.argmin(dim=1))
    assert ((maps > 0).sum(dim=1) == 1).all()
    torch.testing.assert_close(
        maps.max(dim=1).values, (next_nearest - nearest) / 2, atol=1e-5, rtol=1e-4
    )


def test_a_single_centre_is_everywhere():
    one = LayerConcepts(("c1",), torch.rand(1, 4), torch.zeros(1), torch.zeros(1), kind="kmeans")
    maps = one.encode(torch.rand(1, 4, 2, 2))
    assert one.fires(maps).all()


@pytest.mark.parametrize(
    ("transform", "expected"),
    [
        ("none", [-2.0, 1.0]),
        ("relu", [0.0, 1.0]),
        ("shift", [1.0, 0.5]),
        ("split", [0.0, 1.0, 2.0, 0.0]),
    ],
)
def test_what_happens_to_negative_activations(transform, expected):
    pixel = torch.tensor([-2.0, 1.0])[None, :, None, None]
    tensors = {"lowest": torch.tensor([-3.0, 0.5])} if transform == "shift" else {}
    assert apply_transform(pixel, transform, tensors).flatten().tolist() == expected


def test_a_shifted_activation_is_never_negative():
    lowest = {"lowest": torch.tensor([-1.0])}
    assert float(apply_transform(torch.full((1, 1, 1, 1), -5.0), "shift", lowest)) == 0


def test_thresholds_of_an_image_are_shares_of_its_own_maximum():
    maps = torch.tensor([[1.0, 2.0, 4.0], [10.0, 20.0, 40.0]])[:, None, None]  # two images
    concepts = LayerConcepts(("c1",), torch.ones(1, 1), torch.zeros(1), torch.tensor([0.4]))
    by_image = dataclasses.replace(concepts, thresholds_of="image")
    expected = torch.tensor([[False, True, True]] * 2)
    assert torch.equal(by_image.fires(maps)[:, 0, 0], expected)
    assert concepts.fires(maps).all()
    assert not by_image.fires(torch.zeros(1, 1, 2, 2)).any()


def test_mined_concepts_survive_the_round_trip(tmp_path):
    shifted = mined("nmf", transform="shift", transform_tensors={"lowest": -torch.rand(6)})
    by_image = mined("nmf", transform="split", inputs=12, thresholds_of="image")
    concepts = ConceptSet({"a": shifted, "b": by_image, "c": mined("kmeans")})
    concepts.save(tmp_path / "c.safetensors")
    loaded = ConceptSet.load(tmp_path / "c.safetensors")
    activations = dict.fromkeys("abc", torch.randn(1, 6, 3, 3))
    for name, maps in concepts.encode(activations).items():
        layer = loaded.layers[name]
        torch.testing.assert_close(loaded.encode(activations)[name], maps)
        assert torch.equal(layer.fires(maps), concepts.layers[name].fires(maps))


def test_sets_of_older_versions_have_thresholds_of_the_data(tmp_path):
    some_set().save(tmp_path / "c.safetensors")
    with safe_open(tmp_path / "c.safetensors", framework="pt") as file:
        described = json.loads(file.metadata()["layers"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    for layer in described.values():
        del layer["thresholds_of"]
    save_file(tensors, tmp_path / "old.safetensors", metadata={"layers": json.dumps(described)})
    old = ConceptSet.load(tmp_path / "old.safetensors")
    assert {layer.thresholds_of for layer in old.layers.values()} == {"data"}


FLOAT8 = torch.float8_e4m3fn
TYPES = {
    "vectors": (FLOAT8, torch.complex64, torch.int64),
    "bias": (FLOAT8, torch.float16, torch.float64),
    "thresholds": (FLOAT8, torch.int8, torch.bool),
    "transform/quantiles": (FLOAT8, torch.float16, torch.int32),
}


@pytest.mark.parametrize("own", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_tensors_of_a_layer_are_of_one_type(tmp_path, tried, own):
    layer = LayerConcepts(
        names=("sky", "road"),
        vectors=torch.ones(2, 3, dtype=own),
        bias=torch.zeros(2, dtype=own),
        thresholds=torch.tensor([0.5, torch.nan]),
        transform="quantile",
        transform_tensors={"quantiles": torch.zeros(3, dtype=own)},
    )
    path = tmp_path / "c.safetensors"
    ConceptSet({"layer4": layer}).save(path)
    maps = ConceptSet.load(path).encode({"layer4": torch.ones(1, 3, 2, 2)})["layer4"]
    assert maps.dtype == own
    refused = 0
    for what, types in TYPES.items():
        for dtype in {*types} - {own}:
            tensors = load_file(path)
            tensors[f"layer4/{what}"] = tensors[f"layer4/{what}"].nan_to_num(0).to(dtype)
            with safe_open(path, "pt") as file:
                save_file(tensors, tmp_path / "bad.safetensors", file.metadata())
            kind = str(dtype).removeprefix("torch.")
            named = what if what != "vectors" else ".*"
            with pytest.raises(InputError, match=f"bad.safetensors: layer4/{named} is .*{kind}"):
                ConceptSet.load(tmp_path / "bad.safetensors")
            refused += 1
    assert refused >= 10
    what = "tensors of other shapes, types or numbers, checksums made to fit"
    tried("folders", what, REFUSED, refused)
