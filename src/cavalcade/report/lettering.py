"""How wide a text is, and where its lines end, in the font that matplotlib brings along."""

import re
from collections.abc import Callable, Iterator
from functools import cache

import matplotlib
from PIL import ImageFont

EM = 100  # pixels of the font in which texts of figures are measured
POINTS = 72  # in an inch


@cache
def font_of(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """The font of all pictures; the size is in pixels."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/{name}", size)


def width_of(text: str, points: float) -> float:
    """Inches that the longest line of a text takes at some font size in points."""
    return max(font_of(EM).getlength(line) for line in text.split("\n")) / EM * points / POINTS


def folded(text: str, inches: float, points: float, after: str = "") -> str:
    r"""A text with line breaks such that no line is longer than some inches; its own are kept.

    Args:
        text: may have lines.
        inches: of the longest line.
        points: size of the font.
        after: where a line that is too long is broken first.

    >>> folded("similarity above chance", 1.0, 7.0)
    'similarity above\nchance'
    >>> folded("my network: layer, depth", 1.0, 7.0, after=":")
    'my network:\nlayer, depth'
    """
    width = int(inches * POINTS / points * EM)
    lines = []
    for part in text.split("\n"):
        if after and width_of(part, points) > inches:
            part = part.replace(f"{after} ", f"{after}\n")
        lines += [line for piece in part.split("\n") for line in wrapped(piece, font_of(EM), width)]
    return "\n".join(lines)


def shortened(text: str, inches: float, points: float) -> str:
    """A text of at most some inches: what does not fit is left out, but for start and end.

    >>> shortened("features.denseblock3.denselayer12.conv2", 1.2, 6.0)
    'feat…3.denselayer12.conv2'
    """
    keep, short = len(text), text
    while width_of(short, points) > inches and keep > 2:
        keep -= 1
        start = keep // 5
        short = f"{text[:start]}…{text[len(text) - keep + start :]}"
    return short


def wrapped(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """The lines of a text, none wider than some pixels."""

    def fits(line: str) -> bool:
        return font.getlength(line.rstrip()) <= width

    lines = [""]
    for piece in _pieces(text, fits):
        if fits(lines[-1] + piece):
            lines[-1] += piece
        else:
            lines.append(piece)
    return [line.rstrip() for line in lines if line.strip()]


def _pieces(text: str, fits: Callable[[str], bool]) -> Iterator[str]:
    """Where a line may end: after words, and within the names of layers that fit on no line."""
    for word in text.split():
        if fits(word):
            yield f"{word} "
            continue
        for part in re.findall(r"[^._/:-]+[._/:-]*|[._/:-]+", word):
            yield from [part] if fits(part) else part  # letter by letter
        yield " "
