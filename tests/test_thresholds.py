import numpy as np
import torch
from sklearn.metrics import jaccard_score

from cavalcade.concepts.thresholds import LogitHistograms, best_thresholds, weighted_counts


def test_threshold_has_the_best_jaccard_on_counted_pixels():
    g = torch.Generator().manual_seed(0)
    truth = torch.rand(4, 2, 8, 8, generator=g) < 0.2
    logits = torch.randn(4, 2, 8, 8, generator=g) + 1.5 * truth
    counted = torch.rand(4, 2, 8, 8, generator=g) < 0.8
    histogram = LogitHistograms(2)
    histogram.update(LogitHistograms.of(logits[:2], truth[:2], counted[:2]))
    histogram.update(LogitHistograms.of(logits[2:], truth[2:], counted[2:]))
    thresholds = histogram.compute()
    for k in range(2):
        z, t = (x[:, k][counted[:, k]].numpy() for x in (logits, truth))
        scores = [jaccard_score(t, z > edge) for edge in np.arange(-3, 4, 1 / 128)]
        reached = jaccard_score(t, z > thresholds[k].item())
        assert reached >= max(scores) - 0.01


def test_absent_concept_has_no_threshold():
    histogram = LogitHistograms(2)
    truth = torch.zeros(1, 2, 2, 2, dtype=torch.bool)
    truth[0, 0, 0, 0] = True
    histogram.update(LogitHistograms.of(torch.randn(1, 2, 2, 2), truth, torch.ones_like(truth)))
    assert histogram.compute().isnan().tolist() == [False, True]


def test_logits_beyond_the_range_are_counted():
    histogram = LogitHistograms(1)
    logits = torch.tensor([[[[-1e6, 1e6]]]])
    histogram.update(
        LogitHistograms.of(logits, logits > 0, torch.ones(1, 1, 1, 2, dtype=torch.bool))
    )
    assert histogram.counts.sum() == 2
    assert ((logits > histogram.compute()) == (logits > 0)).all()


def some_pixels():
    g = torch.Generator().manual_seed(3)
    truth = torch.rand(4, 3, 8, 8, generator=g) < 0.2
    truth[:, 2] = False
    logits = 6 * torch.randn(4, 3, 8, 8, generator=g) + 5 * truth
    return logits, truth, torch.rand(4, 3, 8, 8, generator=g) < 0.8


def flat(maps):
    return maps.movedim(1, -1).flatten(0, 2)


def test_pixels_of_weight_one_are_counted_as_they_are():
    logits, truth, counted = some_pixels()
    present, labelled = flat(truth & counted).float(), flat(counted).float()
    counts = weighted_counts(flat(logits), present, labelled, torch.ones(4 * 64))
    assert torch.equal(counts.long(), LogitHistograms.of(logits, truth, counted))


def test_a_pixel_counts_as_often_as_it_weighs():
    logits, truth, counted = some_pixels()
    weights = torch.randint(1, 5, (4 * 64,), generator=torch.Generator().manual_seed(4))
    parts = [flat(logits), flat(truth & counted).float(), flat(counted).float()]
    found = weighted_counts(*parts, weights.float())
    repeated = [part.repeat_interleave(weights, dim=0) for part in parts]
    assert torch.equal(found, weighted_counts(*repeated, torch.ones(int(weights.sum()))))
    assert best_thresholds(found).isnan().tolist() == [False, False, True]
    assert torch.equal(best_thresholds(found)[:2], best_thresholds(3.7 * found)[:2])


def hills(count, seed):
    """Logits of pixels that show a concept and of those that do not, of two concepts."""
    g = torch.Generator().manual_seed(seed)
    shown = (torch.rand(count, 2, generator=g) < torch.tensor([0.1, 0.3])).float()
    logits = (2 * shown + torch.randn(count, 2, generator=g)) * torch.tensor([0.5, 3.0])
    return logits, shown


def test_smoothing_takes_off_much_of_what_is_lost_by_few_pixels():
    def counts(seed, pixels):
        logits, shown = hills(pixels, seed)
        return weighted_counts(logits, shown, torch.ones_like(shown), torch.ones(pixels))

    logits, shown = hills(500_000, 99)

    def jaccard(thresholds):
        fired = logits > thresholds
        both, either = fired * shown, torch.maximum(fired.float(), shown)
        return both.sum(dim=0) / either.sum(dim=0)

    best = jaccard(best_thresholds(counts(99, 500_000)))
    few = [counts(seed, 5000) for seed in range(20)]
    rough, smooth = (
        sum(best - jaccard(best_thresholds(own, smoothed=each)) for own in few) / len(few)
        for each in (False, True)
    )
    assert (smooth < 0.8 * rough).all()
    exact = best_thresholds(counts(99, 500_000), smoothed=True)
    assert (jaccard(exact) > best - 0.0005).all()


def test_smoothing_keeps_what_has_no_pixel_apart():
    logits, shown = hills(500, 0)
    shown[:, 1] = 0
    found = weighted_counts(logits, shown, torch.ones_like(shown), torch.ones(500))
    assert best_thresholds(found, smoothed=True).isnan().tolist() == [False, True]
    assert best_thresholds(0 * found, smoothed=True).isnan().all()
