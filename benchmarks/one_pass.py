"""All probes of all layers, in units of F: plain forwards of the training images.

    python -m benchmarks.one_pass
    python -m benchmarks.one_pass --images 400 --epochs 10 --precision 32-true

EfficientNet-Lite0, 13 layers x 7 concepts = 91 probes, rendered faces that lie in memory as they
reach the network; one strength of L2 and no halves. F are forwards to the deepest tap as ours run
them, in the same precision; how long a network takes as it comes from its zoo is told beside.

- one pass: places are kept, and all layers solved for. How far each layer's loss on *all* cells
  is above its optimum is told; the optimum is found from up to two million places of each layer,
  with steps that each head, also of the widest layer, has to itself, until they promise less than
  a millionth. Where that takes too many of them, the program says so and fails.
- Adam: one epoch with forwards is timed, and that times the number of epochs; one on activations
  that lie in memory, the best cache there is, likewise. All epochs are run on the latter for
  their loss, which is the same.
- one probe at a time, as Net2Vec is fitted: an epoch of each, over the first images, of which the
  network is run as far as its layer; one concept of each layer is timed, and counts for all. The
  clock starts after a first batch: a long epoch would hide how an epoch is started.
"""

import contextlib
import functools
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import pandas as pd
import torch
from jaxtyping import Float
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from benchmarks.arguments import at_least_one, parser_of
from benchmarks.cores import keep_to
from benchmarks.forward import plain
from benchmarks.rendered import BATCH, InMemory, Precision, forwards, lite0, seconds, trainers
from cavalcade.backbones import FrozenBackbone
from cavalcade.cli import run
from cavalcade.concepts import ConceptSet, Probes, logistic
from cavalcade.concepts.fitting import ProbeFit
from cavalcade.concepts.passes import computed
from cavalcade.concepts.probes import weighted_classes, weighted_cost
from cavalcade.concepts.survey import Survey
from cavalcade.data.batches import ConceptBatch, Targets
from cavalcade.report.tables import print_table

L2 = 1e-3
MANY_ROWS = 2_000_000
TO_THE_END: dict[str, Any] = {  # settings of `logistic`
    "TOLERANCE": 1e-6,
    "MOST_STEPS": 3000,
    "OWN_METRIC": 10_000,
}
ALONE = 160  # images for which probes are timed one at a time
FUSED_ADAM = functools.partial(torch.optim.Adam, lr=0.03, fused=True)
Batches = Sequence[ConceptBatch]


def main() -> None:
    """Measure all of it."""
    parser = parser_of(__doc__, repeats=3)
    parser.add_argument("--images", type=at_least_one, default=2000, help="for training")
    parser.add_argument("--epochs", type=at_least_one, default=60, help="of Adam")
    parser.add_argument(
        "--threads", type=at_least_one, default=1, help="of torch, on as many cores"
    )
    parser.add_argument(
        "--precision",
        default="bf16-mixed",
        choices=("bf16-mixed", "32-true"),
        help="of the network",
    )
    args = parser.parse_args()
    if args.images < 2 * BATCH:
        parser.error(f"--images must be {2 * BATCH} or more: two batches")
    keep_to(args.threads)
    backbone, precision = lite0(), args.precision
    data = InMemory(backbone, {"train": args.images, "val": 40})
    batches, concepts = data.batches["train"], data.splits["train"].concepts
    stored = with_activations(backbone, batches, precision)
    survey = surveyed(backbone, batches, precision)
    found: list[ConceptSet] = []
    ratios = []
    first = batches[: ALONE // BATCH]
    cut = [lite0([name]) for name in backbone.names]
    as_from_zoo = plain(backbone, torch.cat([batch.inputs for batch in first[1:]]))
    forwards(backbone, batches[:8], precision)
    as_from_zoo()  # warms up
    for _ in range(args.repeats):
        forward = seconds(lambda: forwards(backbone, batches, precision))
        one = seconds(lambda: found.append(in_one_pass(backbone, data, precision)))
        epochs = [
            seconds(functools.partial(run_epochs, streaming(backbone, concepts, survey), *what))
            for what in ((batches, precision, 1), (stored, precision, 1))
        ]
        alone = len(concepts) * seconds_alone(cut, first, survey, precision)
        short = seconds(functools.partial(forwards, backbone, first[1:], precision))
        zoo = seconds(as_from_zoo)
        ratios.append([*(own / forward for own in (one, *epochs)), alone / short, zoo / short])
    one, epoch, cached, alone, zoo = (statistics.median(own) for own in zip(*ratios, strict=True))
    adam = streaming(backbone, concepts, survey)
    run_epochs(adam, stored, precision, args.epochs)
    for stacked in adam.probes:  # the last ones
        stacked.keep_best(torch.full_like(stacked.best_loss, -torch.inf))
    reached = ConceptSet({stacked.layer: stacked.fold() for stacked in adam.probes})
    with to_the_end() as unsolved:
        best = in_one_pass(backbone, data, precision, MANY_ROWS)
    totals = [losses(backbone, stored, survey, own) for own in (found[0], reached, best)]
    probes = len(backbone.layers) * len(concepts)
    in_all, kept = args.epochs * epoch, 1 + args.epochs * cached
    rows = [
        ("one pass", one, 1.0, _above(totals[0], totals[2])),
        (f"Adam, {args.epochs} epochs with forwards", in_all, in_all / one, _above(*totals[1:])),
        ("a forward, and Adam on what is kept of it", kept, kept / one, _above(*totals[1:])),
        ("an epoch of Adam, with forwards", epoch, epoch / one, None),
        ("an epoch of Adam, on what is kept", cached, cached / one, None),
        ("an epoch of each probe alone, with forwards to its layer", alone, alone / one, None),
        ("a forward as from its zoo: float32, channels first", zoo, zoo / one, None),
    ]
    columns = ["", "F", "times one pass", "percent above optimum"]
    print_table(
        f"{probes} probes, {args.images} images, {precision}: medians of {args.repeats}",
        pd.DataFrame(rows, columns=columns),
    )
    table = pd.DataFrame(
        {
            "layer": backbone.names,
            "channels": [layer.channels for layer in backbone.layers],
            "optimum": totals[2].mean(dim=1),
            "one pass percent above": 100 * (totals[0] / totals[2] - 1).mean(dim=1),
            "Adam percent above": 100 * (totals[1] / totals[2] - 1).mean(dim=1),
        }
    )
    print_table("Loss on all cells, mean over concepts; what knows nothing has 0.693", table)
    if unsolved:
        sys.exit(f"the optimum was not reached, losses are further above it: {'; '.join(unsolved)}")


def with_activations(
    backbone: FrozenBackbone, batches: Batches, precision: Precision
) -> list[ConceptBatch]:
    """The same batches with the activations of every layer in place of images."""
    kept = []
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
        for batch in batches:
            nothing = batch.inputs[..., :0, :0]
            kept.append(batch._replace(inputs=nothing, activations=backbone(batch.inputs)))
    return kept


def of_first_concept(batches: Batches) -> list[ConceptBatch]:
    """The same batches with the truth about one concept alone."""
    return [
        batch._replace(
            targets={
                grid: Targets(*(part[:, :1] for part in own)) for grid, own in batch.targets.items()
            }
        )
        for batch in batches
    ]


def surveyed(backbone: FrozenBackbone, batches: Batches, precision: Precision) -> Survey:
    """What a fit by stream starts from."""
    concepts = batches[0].truth.shape[1]
    survey = Survey(backbone, concepts, _all(batches), transform="none", containing=False)
    trainers(precision)().test(survey, _loader(batches), verbose=False)
    return survey


def streaming(backbone: FrozenBackbone, concepts: Sequence[str], survey: Survey) -> ProbeFit:
    """A fit by stream before its first step."""
    fit = ProbeFit(
        backbone,
        concepts,
        survey.members,
        loss="balanced",
        containing=False,
        transform="none",
        optimizer=FUSED_ADAM,
        l2=L2,
        batch_size=BATCH,
        seed=0,
    )
    if len(concepts) == survey.shares.present.shape[1]:
        fit.start_from(survey)
    return fit


def run_epochs(
    fit: ProbeFit, batches: Batches, precision: Precision, epochs: int, *callbacks: Callback
) -> None:
    """Train by stream, without validation."""
    trainer = trainers(precision)(
        max_epochs=epochs, limit_val_batches=0, extra_callbacks=list(callbacks)
    )
    trainer.fit(fit, _loader(batches))


def in_one_pass(
    backbone: FrozenBackbone, data: InMemory, precision: Precision, rows: int | None = None
) -> ConceptSet:
    """Fit as a visit does."""
    method = Probes(l2=L2, rows=rows, split_half=False)
    return method.find(backbone, data, trainers(precision), Path()).concepts


class AfterFirstBatch(Callback):
    """Times an epoch, less its first batch and all that comes before: what more images would cost.

    Attributes:
        seconds: from the end of the first batch to that of the last.
    """

    def __init__(self) -> None:
        self._start = self.seconds = 0.0

    def on_train_batch_end(
        self,
        trainer: Trainer,  # noqa: ARG002
        pl_module: LightningModule,  # noqa: ARG002
        outputs: object,  # noqa: ARG002
        batch: ConceptBatch,  # noqa: ARG002
        batch_idx: int,
    ) -> None:
        """Start, or see how long it has taken so far."""
        now = time.perf_counter()
        self._start = self._start if batch_idx else now
        self.seconds = now - self._start


@contextlib.contextmanager
def to_the_end() -> Iterator[list[str]]:
    """Solve for the optimum itself; gives what is said about heads that did not get there."""
    unsolved: list[str] = []

    def note(message: str, *values: object) -> None:
        unsolved.append(message % values)

    with (
        mock.patch.multiple(logistic, **TO_THE_END),
        mock.patch.object(logistic.log, "warning", note),
    ):
        yield unsolved


def seconds_alone(
    networks: Sequence[FrozenBackbone], batches: Batches, survey: Survey, precision: Precision
) -> float:
    """All but the first batch of an epoch of one probe, at each network's only layer in turn."""
    one, total = of_first_concept(batches), 0.0
    for network in networks:
        clock = AfterFirstBatch()
        run_epochs(streaming(network, ["skin"], survey), one, precision, 1, clock)
        total += clock.seconds
    return total


def losses(
    backbone: FrozenBackbone, stored: Batches, survey: Survey, concepts: ConceptSet
) -> Float[Tensor, "layers concepts"]:
    """The regularised loss of every probe on all cells of all images, log 2 at zero."""
    alpha, area = (part.view(1, -1) for part in computed(survey.shares))
    size = 2 * alpha * (1 - alpha)
    each = (1 / (size * area * survey.members.shape[1]))[..., None]
    found = []
    for layer, channels in zip(backbone.layers, survey.channels, strict=True):
        own, total = concepts.layers[layer.name], torch.zeros(alpha.shape[1], dtype=torch.float64)
        for batch in stored:
            maps = batch.activations[layer.name]
            logits = own.encode(maps).transpose(0, 1).flatten(1)
            weights = each.expand(-1, -1, len(maps))
            positive, negative = weighted_classes(batch.targets[layer.grid], alpha, weights)
            cost = weighted_cost(logits, positive[0], negative[0], "balanced")
            total += cost.sum(dim=1, dtype=torch.float64)
        _, deviation = computed(channels)
        found.append(total + L2 / 2 * (own.vectors * deviation).square().sum(dim=1))
    return torch.stack(found)


def _above(own: Tensor, best: Tensor) -> float:
    """By how many percent losses are above the lowest, on average."""
    return float(100 * (own / best - 1).mean())


def _all(batches: Batches) -> Tensor:
    return torch.ones(1, sum(len(batch.positions) for batch in batches), dtype=torch.bool)


def _loader(batches: Batches) -> DataLoader[ConceptBatch]:
    return DataLoader(batches, batch_size=None)  # type: ignore[arg-type]


if __name__ == "__main__":
    run(main)
