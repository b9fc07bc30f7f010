"""What the command lines of benchmarks share."""

import argparse


class _Help(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    """The description as it is written, and the default of each option."""


def parser_of(doc: str | None, *, repeats: int | None = None) -> argparse.ArgumentParser:
    """A parser that shows a benchmark's docstring.

    Args:
        doc: of the benchmark.
        repeats: the default of --repeats; without one there is no such option.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=_Help)
    if repeats is not None:
        parser.add_argument(
            "--repeats", type=at_least_one, default=repeats, help="how often each is timed"
        )
    return parser


def at_least_one(text: str) -> int:
    """A whole number from 1 up."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is no whole number from 1 up")
    return number
