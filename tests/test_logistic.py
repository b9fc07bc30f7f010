"""Every head is at the lowest of its own objective, whatever the rows and the other heads."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from cavalcade.concepts import logistic
from cavalcade.concepts.logistic import FEWEST_FIRST, WeightedRows, fit, losses, moments

STRENGTHS = (1e-4, 1e-2, 1.0)
NEAR = 1.005  # of the lowest objective
MANY = 3 * FEWEST_FIRST  # rows, of which some are fitted first


def drawn(count, channels, seed=0):
    return torch.randn(count, channels, generator=torch.Generator().manual_seed(seed))


def shares(logits, seed=1):
    """Soft truth: of a place whose logits are high, most shows the concept."""
    noise = torch.randn(logits.shape, generator=torch.Generator().manual_seed(seed))
    return torch.sigmoid(3 * (logits + noise))


def weighted(activations, present, weights=None):
    """Rows of which either class of a concept, by its share of each row, weighs one half."""
    weights = torch.ones(len(activations)) if weights is None else weights
    shown, hidden = (part.T * weights for part in (present, 1 - present))
    halves = [part / (2 * part.sum(dim=1, keepdim=True)) for part in (shown, hidden)]
    return WeightedRows(activations, *moments(activations, weights), *halves)


def well_conditioned(count=3000):
    x = drawn(count, 16)
    return weighted(x, shares(x[:, :3]))


def ill_conditioned(count=3000):
    """Channels that mix a few directions, the last a thousand times as weak as the first."""
    hidden = drawn(count, 24) * torch.logspace(0, -3, 24)
    mixed = hidden @ torch.linalg.qr(drawn(24, 24, seed=2))[0]
    return weighted(mixed, shares(30 * hidden[:, [0, 5, 12]]))


def sparse():
    """Most activations are zero, a few are large, as after a ReLU."""
    x = (drawn(3000, 24).exp() - 3).relu() ** 1.5
    return weighted(x, (x[:, :3] > 4).float())


def separable():
    x = drawn(2000, 12)
    return weighted(x, (x[:, :3] + 0.1 * x[:, 3:6] > 1.0).float())


def with_constant_channels():
    rows = well_conditioned()
    x = torch.cat([rows.activations, torch.full((3000, 2), 7.0), torch.zeros(3000, 1)], dim=1)
    return weighted(x, shares(x[:, :3]))


def far_from_zero():
    x = drawn(3000, 16)
    return weighted(100 + 0.1 * x, shares(x[:, :3]))


def with_duplicates():
    x = drawn(3000, 8)
    return weighted(torch.cat([x, x, 2 * x], dim=1), shares(x[:, :3]))


def rare():
    """Of a concept that few rows show, and rows that weigh differently."""
    x = drawn(4000, 16)
    present = shares(x[:, :3]) * (x[:, :3] > 2.2)
    return weighted(x, present, weights=drawn(4000, 1)[:, 0].exp())


def halved():
    rows = well_conditioned()
    return replace(rows, activations=rows.activations.bfloat16())


KINDS = {
    "well conditioned": well_conditioned,
    "ill conditioned": ill_conditioned,
    "sparse": sparse,
    "separable": separable,
    "constant channels": with_constant_channels,
    "far from zero": far_from_zero,
    "duplicate channels": with_duplicates,
    "rare": rare,
    "bfloat16": halved,
    "many rows": lambda: well_conditioned(MANY),
    "many ill-conditioned rows": lambda: ill_conditioned(MANY),
}


def strengths_of(rows, strengths=STRENGTHS):
    return torch.tensor(strengths)[:, None].repeat(1, len(rows.present))


def inputs_of(rows):
    """Standardised, in float64."""
    return ((rows.activations.double() - rows.mean) / rows.scale).numpy()


def objective(inputs, present, absent, head, l2):
    z = inputs @ head[:-1] + head[-1]
    return (
        present @ np.logaddexp(0, -z) + absent @ np.logaddexp(0, z) + l2 / 2 * head[:-1] @ head[:-1]
    )


def lowest(inputs, present, absent, l2):
    """Of scikit-learn, each row once as it shows the concept and once as it does not."""
    model = LogisticRegression(C=1 / l2, solver="newton-cholesky", tol=1e-9, max_iter=200)
    truth = np.repeat([1, 0], len(inputs))
    model.fit(np.tile(inputs, (2, 1)), truth, np.concatenate([present, absent]))
    head = np.append(model.coef_[0], model.intercept_)
    return objective(inputs, present, absent, head, l2)


def objectives(rows, heads, l2, reference=None):
    """Of each head, and the lowest there is, if it is asked for."""
    inputs, found = inputs_of(rows), []
    present, absent = (part.double().numpy() for part in (rows.present, rows.absent))
    for s, k in np.ndindex(*l2.shape):
        strength = float(l2[s, k])
        if reference is None:
            head = heads[s, k].double().numpy()
            found.append(objective(inputs, present[k], absent[k], head, strength))
        else:
            found.append(reference(inputs, present[k], absent[k], strength))
    return np.array(found).reshape(l2.shape)


@pytest.mark.parametrize("kind", KINDS)
def test_heads_are_at_the_lowest_of_their_objective(kind):
    rows = KINDS[kind]()
    l2 = strengths_of(rows)
    found = objectives(rows, fit(rows, l2), l2)
    reference = objectives(rows, None, l2, lowest)
    assert (found <= NEAR * reference).all(), found / reference
    assert (found >= (1 - 1e-6) * reference).all()  # or the reference is not the lowest
    assert (reference[0] < 0.95 * np.log(2)).all()  # there is something to learn


@pytest.mark.parametrize("kind", ["sparse", "ill conditioned", "many rows"])
def test_a_head_does_not_depend_on_the_others(kind):
    rows = KINDS[kind]()
    l2 = strengths_of(rows)
    together = fit(rows, l2)
    for k in range(len(rows.present)):
        one = replace(rows, present=rows.present[k : k + 1], absent=rows.absent[k : k + 1])
        for s, strength in enumerate(STRENGTHS):
            alone = fit(one, torch.tensor([[strength]]))
            shown = objectives(
                one, torch.cat([alone, together[s : s + 1, k : k + 1]]), l2[[s, s], :1]
            )
            assert shown.max() <= NEAR * shown.min()
            assert alike(alone[0, 0, :-1], together[s, k, :-1]) > 0.99


def alike(one, other):
    return torch.cosine_similarity(one.double(), other.double(), dim=0).item()


def test_strengths_may_differ_between_concepts():
    rows = sparse()
    l2 = torch.tensor([[1e-4, 1e-2, 1.0]])
    found = objectives(rows, fit(rows, l2), l2)
    assert (found <= NEAR * objectives(rows, None, l2, lowest)).all()


@pytest.mark.parametrize("missing", ["present", "absent"])
def test_a_concept_without_weight_of_one_class_has_a_head_of_zeros(missing):
    rows = well_conditioned()
    getattr(rows, missing)[1] = 0
    heads = fit(rows, strengths_of(rows))
    assert (heads[:, 1] == 0).all()
    others = replace(rows, present=rows.present[[0, 2]], absent=rows.absent[[0, 2]])
    l2 = strengths_of(others)
    shown = objectives(others, heads[:, [0, 2]], l2)
    assert (shown <= NEAR * objectives(others, fit(others, l2), l2)).all()


def test_no_concept_with_weight_leaves_heads_of_zeros():
    rows = well_conditioned()
    rows = replace(
        rows, present=torch.zeros_like(rows.present), absent=torch.zeros_like(rows.absent)
    )
    assert (fit(rows, strengths_of(rows)) == 0).all()


@pytest.mark.parametrize("kind", ["many rows", "many ill-conditioned rows"])
def test_a_first_stage_on_some_rows_ends_at_the_same(kind, monkeypatch):
    rows = KINDS[kind]()
    l2 = strengths_of(rows)
    staged = objectives(rows, fit(rows, l2), l2)
    monkeypatch.setattr(logistic, "FEWEST_FIRST", MANY)
    direct = objectives(rows, fit(rows, l2), l2)
    assert (staged <= NEAR * direct).all()
    assert (direct <= NEAR * staged).all()


@pytest.mark.parametrize("kind", ["rare", "well conditioned"])
def test_some_rows_weigh_as_much_as_all_and_keep_what_weighs_much(kind):
    rows = KINDS[kind]()
    some = rows.some(1000)
    assert 0.8 * 1000 < len(some.activations) <= 1001
    for part in ("present", "absent"):
        drawn, whole = (getattr(each, part).sum(dim=1) for each in (some, rows))
        torch.testing.assert_close(drawn, whole, rtol=0.1, atol=0)
    heaviest = (rows.present + rows.absent).sum(dim=0).argmax()
    assert (some.activations == rows.activations[heaviest]).all(dim=1).any()


def test_of_few_rows_all_are_some():
    rows = well_conditioned()
    for part, own in vars(rows.some(10_000)).items():
        torch.testing.assert_close(own, getattr(rows, part))


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_and_losses_are_those_of_float64(kind):
    rows = KINDS[kind]()
    heads = drawn(2 * 3, len(rows.mean) + 1).view(2, 3, -1)
    inputs = inputs_of(rows)
    inputs = np.column_stack([inputs, np.ones(len(inputs))])
    z = np.einsum("skc,nc->skn", heads.double().numpy(), inputs)
    np.testing.assert_allclose(
        rows.logits(heads.flatten(0, 1)), z.reshape(6, -1), rtol=1e-3, atol=2e-3
    )
    present, absent = rows.present.double().numpy(), rows.absent.double().numpy()
    cost = present * np.logaddexp(0, -z) + absent * np.logaddexp(0, z)
    np.testing.assert_allclose(losses(rows, heads), cost.sum(axis=2), rtol=1e-3)
    residuals = (present + absent) * expit(z) - present
    pulled = rows.pull(torch.tensor(residuals).float().flatten(0, 1))
    np.testing.assert_allclose(pulled, (residuals @ inputs).reshape(6, -1), rtol=1e-3, atol=1e-4)


def test_grams_are_the_weighted_products_of_inputs():
    rows = rare()
    inputs = np.column_stack([inputs_of(rows), np.ones(len(rows.activations))])
    weights = torch.stack([rows.present[0], rows.absent.mean(dim=0)])
    for found, weight in zip(rows.grams(weights), weights.double().numpy(), strict=True):
        np.testing.assert_allclose(found, (inputs.T * weight) @ inputs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_one_metric_for_all_heads_leads_to_the_same(kind, monkeypatch):
    """As for layers too wide for a Hessian of each head."""
    monkeypatch.setattr(logistic, "OWN_METRIC", 1)
    rows = KINDS[kind]()
    l2 = strengths_of(rows)
    found = objectives(rows, fit(rows, l2), l2)
    assert (found <= NEAR * objectives(rows, None, l2, lowest)).all()


@pytest.mark.parametrize("kind", ["many rows", "rare"])
def test_concepts_fitted_some_at_a_time_have_the_same_heads_up_to_rounding(kind, monkeypatch):
    rows = KINDS[kind]()
    l2 = strengths_of(rows)
    together = fit(rows, l2)
    monkeypatch.setattr(logistic, "MOST_NUMBERS", len(rows.activations) * len(l2) * 2)
    apart = fit(rows, l2)
    torch.testing.assert_close(apart, together, rtol=1e-3, atol=1e-3 * together.abs().max())


def test_numbers_of_a_temporary_have_a_bound(monkeypatch):
    rows = well_conditioned()
    l2 = strengths_of(rows)
    seen = []
    whole = logistic.WeightedRows.pull

    def watched(self, residuals):
        seen.append(residuals.numel())
        return whole(self, residuals)

    monkeypatch.setattr(logistic.WeightedRows, "pull", watched)
    monkeypatch.setattr(logistic, "MOST_NUMBERS", len(rows.activations) * len(l2))
    fit(rows, l2)
    assert max(seen) == len(rows.activations) * len(l2)


def test_what_is_not_at_its_optimum_after_the_last_step_is_told_once(monkeypatch, caplog):
    rows = KINDS["many ill-conditioned rows"]()
    fit(rows, strengths_of(rows))
    assert not caplog.messages
    monkeypatch.setattr(logistic, "MOST_STEPS", 1)
    fit(rows, strengths_of(rows))
    assert len(caplog.messages) == 1
    assert "of 9 probes of 24 channels are not yet at their optimum after 1 steps" in caplog.text


def test_a_wide_layer_without_any_row_has_heads_of_zeros():
    channels = logistic.OWN_METRIC + 1
    nothing = torch.zeros(3, 0)
    rows = WeightedRows(
        torch.zeros(0, channels), torch.zeros(channels), torch.ones(channels), nothing, nothing
    )
    assert (fit(rows, torch.ones(2, 3)) == 0).all()


@pytest.mark.parametrize("width", [100, 300])
def test_wide_layers_of_channels_that_are_alike_are_near_the_lowest(width, monkeypatch):
    hidden = drawn(3000, 40)
    x = (hidden @ drawn(40, width, seed=2) + 0.3 * drawn(3000, width, seed=3)).relu()
    rows = weighted(x, (hidden[:, :3] > 1.2).float())
    l2 = strengths_of(rows, [3e-4, 1e-2])
    found = objectives(rows, fit(rows, l2), l2)
    monkeypatch.setattr(logistic, "TOLERANCE", 1e-6)
    monkeypatch.setattr(logistic, "MOST_STEPS", 500)
    assert (found <= NEAR * objectives(rows, fit(rows, l2), l2)).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_moments_are_those_of_float64(dtype):
    x = (100 + 0.5 * drawn(3000, 4)).to(dtype)
    weights = drawn(3000, 1)[:, 0].exp()
    mean, scale = moments(x, weights)
    reference = np.average(x.double().numpy(), axis=0, weights=weights.double().numpy())
    squares = np.average((x.double().numpy() - reference) ** 2, axis=0, weights=weights.numpy())
    np.testing.assert_allclose(mean, reference, rtol=1e-5)
    np.testing.assert_allclose(scale, np.sqrt(squares), rtol=1e-3)


def test_a_constant_channel_has_a_scale_of_one():
    x = torch.cat([drawn(2000, 2), torch.full((2000, 1), 0.1), torch.zeros(2000, 1)], dim=1)
    assert moments(x, torch.ones(2000))[1][2:].tolist() == [1, 1]


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("strength", [1e-8, 1e3])
def test_heads_are_finite_whatever_the_scale_and_the_strength(scale, strength):
    x = drawn(500, 8)
    rows = weighted(x * scale, (x[:, :3] > 1.2).float())
    heads = fit(rows, strengths_of(rows, [strength]))
    assert heads.isfinite().all()
    assert (losses(rows, heads) <= np.log(2) + 1e-5).all()


def test_one_row_of_a_class_is_fitted():
    x = drawn(500, 8)
    present = torch.zeros(500, 1)
    present[17] = 1
    rows = weighted(x, present)
    l2 = strengths_of(rows)
    found = objectives(rows, fit(rows, l2), l2)
    assert (found <= NEAR * objectives(rows, None, l2, lowest)).all()


@pytest.mark.parametrize("kind", ["sparse", "rare", "many rows", "many ill-conditioned rows"])
def test_a_strength_alone_gives_the_same_heads_up_to_rounding(kind):
    """They share no more than the passes: one that is done, or takes long, changes no other."""
    rows = KINDS[kind]()
    l2 = strengths_of(rows)
    together = fit(rows, l2)
    for s in range(len(l2)):
        alone = fit(rows, l2[s : s + 1])[0]
        torch.testing.assert_close(together[s], alone, rtol=1e-3, atol=1e-3 * alone.abs().max())
