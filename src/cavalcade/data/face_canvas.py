"""What the drawn faces are made with: colours, textures, shapes, a pose and a canvas."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.random import Generator
from PIL import Image, ImageChops, ImageDraw, ImageFilter

NOTHING = 255  # the part of a pixel that shows no part

Real = float | int  # the runtime type checker tells them apart
Colour = Float[np.ndarray, "3"]
Curve = Float[np.ndarray, " points"]
Points = Float[np.ndarray, "_ 2"]

BLACK, WHITE = np.full(3, 20.0), np.full(3, 245.0)


def pick(rng: Generator, palette: str) -> Colour:
    """A colour near one of a palette."""
    colour = np.array([*bytes.fromhex(str(rng.choice(palette.split())))])
    return np.clip(colour + rng.normal(0, 8) + rng.normal(0, 3, 3), 8, 250)


def any_colour(rng: Generator) -> Colour:
    """Any colour, loud ones being rare."""
    colour = rng.uniform(20, 240, 3)
    return mix(colour, np.full(3, colour.mean()), rng.uniform(0, 0.8))


def mix(a: Colour, b: Colour, share: Real) -> Colour:
    """The first colour with a share of the second."""
    return a + share * (b - a)


def rgb(colour: Colour) -> tuple[int, int, int]:
    """A colour as Pillow takes it."""
    red, green, blue = np.clip(colour, 0, 255).astype(int).tolist()
    return red, green, blue


def texture(rng: Generator, side: int, a: Colour, b: Colour) -> Image.Image:
    """Two colours in stripes, checks, blobs, clouds or a gradient."""
    half = (side // 2, side // 2)
    y, x = (axis / half[0] for axis in np.ogrid[: half[0], : half[1]])
    angle, pitch, kind = rng.uniform(0, np.pi), rng.uniform(6, 40), rng.integers(6)
    along, across = (np.cos(angle + t) * x + np.sin(angle + t) * y for t in (0, np.pi / 2))
    if kind <= 1:
        # Steep rather than a jump, so that the edges are smooth.
        share = 0.5 + 9 * np.sin(pitch * along) * (np.sin(pitch * across) if kind else 1)
    elif kind <= 3:
        coarse = Image.fromarray(rng.integers(0, 256, rng.integers(3, 60, 2), np.uint8))
        share = 0.5 + (8 if kind == 2 else 1) * (np.asarray(coarse.resize(half)) / 255 - 0.5)
    else:
        share = (along - along.min()) / np.ptp(along)
    mask = Image.fromarray((255 * np.clip(share, 0, 1)).astype(np.uint8)).resize((side, side))
    plain = [Image.new("RGB", mask.size, rgb(colour)) for colour in (a, b)]
    return Image.composite(plain[0], plain[1], mask)


def curve(x: Curve, y: Curve | Real) -> Points:
    """The points of y over x."""
    return np.stack([x, y + 0 * x], 1)


def between(x: Curve, top: Curve | Real, bottom: Curve | Real) -> Points:
    """The band between two curves."""
    return np.concatenate([curve(x, top), curve(x, bottom)[::-1]])


def ellipse(x: Real, y: Real, width: Real, height: Real, power: Real = 1.0) -> Points:
    """An ellipse of given centre and half axes; the lower its power, the squarer."""
    t = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    cos, sin = (np.sign(f(t)) * np.abs(f(t)) ** power for f in (np.cos, np.sin))
    return curve(x + width * cos, y + height * sin)


def dome(reach: Real, grow: Real, curl: Real = 0.0) -> Points:
    """An arc over the head, `reach` radians to each side of its top, wavy if curled."""
    t = np.linspace(-reach, reach, 90)
    radius = grow * (1 + curl * np.abs(np.sin(8 * t)))
    return curve(radius * np.sin(t), -radius * np.cos(t))


def smooth(corners: Sequence[tuple[Real, Real]], mirrored: bool = True) -> Points:
    """A closed curve near its corners (or near those of its right half), by cutting them off."""
    left = [(-x, y) for x, y in reversed(corners)] if mirrored else []
    points = np.array([*corners, *left], float)
    for _ in range(3):  # Chaikin, 1974
        after = np.roll(points, -1, 0)
        points = np.stack([0.75 * points + 0.25 * after, 0.25 * points + 0.75 * after], 1)
        points = points.reshape(-1, 2)
    return points


@dataclass(frozen=True)
class Pose:
    """Where a head is and how it is turned; half its height is the unit of length."""

    centre: Float[np.ndarray, "2"]
    scale: Real
    width: Real = 1.0
    roll: Real = 0.0
    yaw: Real = 0.0
    pitch: Real = 0.0

    def flat(self, points: Points) -> Points:
        """Pixels of points in the plane of the picture, such as the head's outline."""
        cos, sin = np.cos(self.roll), np.sin(self.roll)
        turn = np.array([[cos, sin], [-sin, cos]])
        return self.centre + self.scale * (points * [self.width, 1]) @ turn

    def face(self, points: Points, depth: Curve | Real = 1.0) -> Points:
        """Pixels of points on the unit sphere, or in front of it, that turn with the head."""
        x, y = points.T
        z = depth * np.sqrt(np.clip(1 - x**2 - y**2, 0, 1))
        turned = x * np.cos(self.yaw) + z * np.sin(self.yaw)
        z = z * np.cos(self.yaw) - x * np.sin(self.yaw)
        return self.flat(curve(turned, y * np.cos(self.pitch) + z * np.sin(self.pitch)))


class Canvas:
    """A picture and the part at each of its pixels, painted together at twice the size."""

    def __init__(self, size: int) -> None:
        self.side = 2 * size
        self.picture = Image.new("RGB", (self.side, self.side))
        self.parts = Image.new("L", (self.side, self.side), NOTHING)

    def paint(self, points: Points, colour: Colour, part: int) -> None:
        """Fill a polygon."""
        xy = points.ravel().tolist()
        ImageDraw.Draw(self.picture).polygon(xy, fill=rgb(colour))
        ImageDraw.Draw(self.parts).polygon(xy, fill=part)

    def stroke(self, points: Points, colour: Colour, part: int, width: Real) -> None:
        """Draw a line as wide as `width` pixels."""
        xy, pixels = points.ravel().tolist(), max(1, round(width))
        ImageDraw.Draw(self.picture).line(xy, rgb(colour), pixels, "curve")
        ImageDraw.Draw(self.parts).line(xy, part, pixels, "curve")

    def shade(
        self, points: Points, fill: Colour | Image.Image, part: int, alpha: Real, blur: Real = 0
    ) -> None:
        """Tint a polygon where `part` is seen; what belongs to which part stays as it is."""
        low = np.clip(points.min(0) - 2 * blur, 0, self.side - 1).astype(int)
        right, bottom = np.clip(points.max(0) + 2 * blur + 1, low + 1, self.side).astype(int)
        box = (int(low[0]), int(low[1]), int(right), int(bottom))
        seen = Image.fromarray(np.asarray(self.parts.crop(box)) == part).convert("L")
        mask = Image.new("L", seen.size)
        ImageDraw.Draw(mask).polygon((points - low).ravel().tolist(), fill=round(255 * alpha))
        mask = ImageChops.darker(mask.filter(ImageFilter.BoxBlur(blur)), seen)
        self.picture.paste(
            fill.crop(box) if isinstance(fill, Image.Image) else rgb(fill), box, mask
        )
