from dataclasses import dataclass
from functools import partial

import pytest
import torch

from cavalcade.concepts import Probes
from cavalcade.concepts.fitting import ProbeFit
from cavalcade.concepts.probes import StackedProbes
from cavalcade.concepts.replicates import replicate_members
from cavalcade.concepts.survey import Survey
from cavalcade.data import ConceptData, Faces
from cavalcade.data.sample import Chosen
from cavalcade.errors import InputError
from cavalcade.visiting.trainers import Trainers
from tiny import VoidSquares, adam, quiet_trainer, streamed, tiny_backbone, tiny_data, tiny_faces


def fit(folder, layers=("2", "4", "6"), *, concepts=None, **options):
    """Probes of some layers and concepts of the small network."""
    data = tiny_faces()
    if concepts is not None:
        data = OnlySome(data=data, kept=concepts, grid=data.grid)
    backbone = tiny_backbone(layers)
    method = streamed(**options)
    loader = tiny_data(backbone, data)
    found = method.find(backbone, loader, Trainers(quiet_trainer), folder)
    return found.concepts, backbone, loader


@dataclass(kw_only=True)
class OnlySome(ConceptData):
    """Faces with only some of their concepts."""

    name: str = "some"
    data: Faces
    kept: list[str]

    def open(self, split):
        return Chosen(self.data.open(split), self.kept)


@pytest.fixture(scope="module")
def joint(tmp_path_factory):
    return fit(tmp_path_factory.mktemp("joint"))


@pytest.mark.parametrize("layer", ["2", "4", "6"])
def test_joint_equals_separate_across_layers_bit_for_bit(joint, layer, tmp_path):
    together = joint[0].layers[layer]
    alone = fit(tmp_path, (layer,))[0].layers[layer]
    assert torch.equal(together.vectors, alone.vectors)
    assert torch.equal(together.bias, alone.bias)
    assert torch.equal(together.thresholds, alone.thresholds)


@pytest.mark.parametrize("concept", ["hair", "mouth"])
def test_joint_equals_separate_across_concepts_to_rounding(joint, concept, tmp_path):
    alone = fit(tmp_path, concepts=[concept])[0]
    for name, together in joint[0].layers.items():
        k = together.names.index(concept)
        torch.testing.assert_close(
            together.vectors[k], alone.layers[name].vectors[0], rtol=1e-3, atol=1e-5
        )


def every_image(count):
    return replicate_members([str(i) for i in range(count)], split_half=False)


def test_survey_statistics_are_those_of_all_training_pixels():
    backbone = tiny_backbone()
    data = tiny_data(backbone)
    survey = Survey(backbone, 7, every_image(12), transform="none", containing=False)
    maps, present, labelled = [], 0, 0
    for batch in data.in_order("train", targets=True):
        survey.test_step(batch)
        maps.append(backbone(batch.inputs)["4"])
    for index in range(12):
        sample = data.splits["train"][index]
        present = present + (sample.masks & sample.labelled).double().mean(dim=(1, 2))
        labelled = labelled + sample.labelled.double().mean(dim=(1, 2))
    pixels = torch.cat(maps).transpose(0, 1).flatten(1).double()
    mean, deviation = survey.channels[1].compute()
    torch.testing.assert_close(mean, pixels.mean(1).float(), rtol=1e-4, atol=1e-6)
    reference = pixels.std(1, correction=0).float()
    torch.testing.assert_close(deviation, reference, rtol=1e-4, atol=1e-6)
    alpha, area = (part[0] for part in survey.shares.compute())
    torch.testing.assert_close(alpha, (1 - present / labelled).float(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(area, (labelled / 12).float(), rtol=1e-5, atol=1e-6)


def test_containing_counts_only_images_with_the_concept():
    backbone = tiny_backbone()
    data = tiny_data(backbone)
    survey = Survey(backbone, 7, every_image(12), transform="none", containing=True)
    for batch in data.in_order("train", targets=True):
        survey.test_step(batch)
    hair = data.splits["train"].concepts.index("hair")
    shares = [data.splits["train"][i].masks[hair].double().mean().item() for i in range(12)]
    shares = [share for share in shares if share > 0]
    alpha, _ = survey.shares.compute()
    assert alpha[0, hair].item() == pytest.approx(1 - sum(shares) / len(shares), abs=1e-5)


def test_quantile_input_is_binary_and_recorded(tmp_path):
    concepts, backbone, data = fit(tmp_path, input="quantile")
    batch = next(iter(data.in_order("train")))
    layer = concepts.layers["4"]
    assert layer.transform == "quantile"
    fired = []
    for batch in data.in_order("train"):
        activations = backbone(batch.inputs)["4"]
        fired.append(activations > layer.transform_tensors["quantiles"][:, None, None])
    share = torch.cat(fired).float().mean(dim=(0, 2, 3))
    assert (share <= 0.02).all()
    assert share.max() > 0
    assert not torch.equal(layer.encode(activations), layer.encode(activations * 0))


def test_a_fixed_threshold_is_a_probability(tmp_path):
    concepts = fit(tmp_path, threshold=0.5)[0]
    assert all((layer.thresholds == 0).all() for layer in concepts.layers.values())


def test_losses_differ(joint, tmp_path):
    other = fit(tmp_path, loss="net2vec")[0]
    assert not torch.equal(joint[0].layers["6"].vectors, other.layers["6"].vectors)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"loss": "hinge"}, "concepts.loss is 'hinge'; give one of balanced, net2vec"),
        ({"images": "some"}, "concepts.images is 'some'"),
        ({"input": "relu"}, "concepts.input is 'relu'"),
        ({"epochs": 0}, "concepts.epochs is 0; give a whole number from 1 up"),
        ({"epochs": True}, "concepts.epochs is True; give a whole number from 1 up"),
        ({"threshold": 2.0}, "concepts.threshold is 2.0; give calibrated, or a number"),
        ({"threshold": "best"}, "concepts.threshold is 'best'"),
    ],
)
def test_unknown_options_are_errors(option, message):
    with pytest.raises(InputError, match=message):
        streamed(**option)


def test_split_half_is_yes_or_no():
    method = Probes()
    method.split_half = "half"  # as Hydra would set it; the type checker of the tests forbids it
    with pytest.raises(InputError, match=r"concepts.split_half is 'half'; give true or false"):
        method.__post_init__()


@pytest.mark.parametrize("containing", [False, True])
def test_training_loss_is_that_of_labelled_pixels(containing):
    """Each concept averages over its labelled share of all training images, or of some."""
    backbone = tiny_backbone(("4",))
    data = tiny_data(backbone, VoidSquares(grid=(32, 32)), batch_size=8)
    fit = ProbeFit(
        backbone,
        ("red", "green"),
        every_image(24),
        loss="balanced",
        containing=containing,
        transform="none",
        optimizer=adam,
        l2=0.01,
        batch_size=8,
        seed=0,
    )
    survey = Survey(backbone, 2, every_image(24), transform="none", containing=containing)
    for batch in data.in_order("train", targets=True):
        survey.test_step(batch)
    fit.start_from(survey)
    assert (fit.probes[0].scale != 1).any()
    found, cost, area = 0.0, torch.zeros(2), torch.zeros(2)
    for batch in data.in_order("train", targets=True):
        found += fit._losses(batch)[0].sum(dim=(0, 1)).detach() / 24
        targets = batch.targets[8, 8]
        p = torch.sigmoid(fit.probes[0](backbone(batch.inputs)["4"]).detach()[:, 0])
        alpha = fit.alpha[0, :, None, None]
        absent = targets.labelled - targets.present
        cells = -alpha * targets.present * p.log() - (1 - alpha) * absent * (1 - p).log()
        counted = torch.ones(len(p), 2)
        if containing:
            counted = (batch.targets[1, 1].present[:, :, 0, 0] > 0).float()
        cost += (cells.sum(dim=(2, 3)) * counted).sum(dim=0)
        area += (targets.labelled.sum(dim=(2, 3)) * counted).sum(dim=0)
    torch.testing.assert_close(found, cost / area, rtol=1e-4, atol=1e-6)


def test_concept_without_validation_pixels_goes_on():
    probes = StackedProbes("a", ["x"], 2, seed=0)
    for _ in range(2):
        with torch.no_grad():
            probes.weight.add_(1)
        probes.keep_best(torch.tensor([[-torch.inf]]))
    assert torch.equal(probes.fold().vectors, probes.weight.detach()[0])


def test_diverged_probes_are_named(tmp_path):
    def explosive(parameters):
        return torch.optim.SGD(parameters, lr=1e38)

    with pytest.raises(InputError, match=r"the probes of layer \w+ diverged; lower concepts"):
        fit(tmp_path, optimizer=explosive)


def test_optimizer_that_cannot_be_built_is_named():
    with pytest.raises(InputError, match=r"concepts.optimizer cannot be built: Invalid learning"):
        Probes(optimizer=partial(torch.optim.Adam, lr=-1))


def test_a_threshold_is_a_probability_other_than_one_half(tmp_path):
    concepts = fit(tmp_path, threshold=0.9)[0]
    assert concepts.layers["4"].thresholds[0].item() == pytest.approx(2.1972246, rel=1e-5)
