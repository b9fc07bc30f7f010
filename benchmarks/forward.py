"""Plain forwards of one network to its deepest tap, in every way that they can be run.

    python -m benchmarks.forward
    python -m benchmarks.forward --threads 2 --no-compile

EfficientNet-Lite0 at 224 x 224 with 13 taps, 64 images, on as many cores as threads. The first
row is how a network comes from its zoo: channels first, float32, in one batch of 32; no tap is
copied. The others are ours, with taps.
"""

import copy
from collections.abc import Callable

import torch

from benchmarks.arguments import at_least_one, parser_of
from benchmarks.cores import keep_to
from benchmarks.in_turn import in_turn, print_ratios
from benchmarks.rendered import BATCH, Precision, lite0
from cavalcade.backbones import FrozenBackbone
from cavalcade.cli import run

IMAGES = 64
PLAIN = "channels first, float32"


def main() -> None:
    """Time all ways in turn."""
    parser = parser_of(__doc__, repeats=5)
    parser.add_argument(
        "--threads", type=at_least_one, default=1, help="of torch, on as many cores"
    )
    parser.add_argument("--no-compile", action="store_true", help="leave out the compiled forward")
    args = parser.parse_args()
    keep_to(args.threads)
    backbone = lite0()
    inputs = torch.randn(IMAGES, 3, *backbone.preprocessing.size)
    works = {PLAIN: plain(backbone, inputs)}
    precisions: tuple[Precision, ...] = ("32-true", "bf16-mixed")
    for precision in precisions:
        for batch in (1, BATCH, 32):
            works[f"{precision}, {batch} at once"] = _ours(backbone, inputs, precision, batch)
        if not args.no_compile:
            compiled = lite0()
            compiled.compile_taps()
            name = f"{precision}, {BATCH} at once, compiled"
            works[name] = _ours(compiled, inputs, precision, BATCH)
    seconds = in_turn(works, args.repeats)
    print_ratios(f"Forwards of {IMAGES} images", seconds, PLAIN)


def plain(backbone: FrozenBackbone, inputs: torch.Tensor) -> Callable[[], None]:
    """A network as it comes from its zoo, in float32 and channels first, 32 images at once."""
    model = copy.deepcopy(backbone.model).to(memory_format=torch.contiguous_format)

    def run() -> None:
        with torch.no_grad():
            for part in torch.split(inputs, 32):
                model(part)

    return run


def _ours(
    backbone: FrozenBackbone, inputs: torch.Tensor, precision: Precision, batch: int
) -> Callable[[], None]:
    def run() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
            for part in torch.split(inputs, batch):
                backbone(part)

    return run


if __name__ == "__main__":
    run(main)
