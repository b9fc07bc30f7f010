"""The parts of a drawn face, one function each, and the random person whose parts they are."""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from cavalcade.data.face_canvas import (
    BLACK,
    NOTHING,
    WHITE,
    Canvas,
    Colour,
    Pose,
    Real,
    any_colour,
    between,
    curve,
    dome,
    ellipse,
    mix,
    pick,
    smooth,
    texture,
)

FACE_CONCEPTS = ("skin", "hair", "eyes", "brows", "nose", "mouth", "clothes")
SKIN, HAIR, EYES, BROWS, NOSE, MOUTH, CLOTHES = range(len(FACE_CONCEPTS))
# Hats and glasses are lit like the person, yet belong to no concept.
THING = 254

SKINS = "ffe3d0 fbd3b8 f3c29f e8b189 d99e73 c88a5e b3774c 9a6340 7d4d32 633b28 4a2b1f"
HAIRS = "17130f 2b1d14 40291a 5d3a20 7c4f2a a06c38 c79a55 e2c27f a8431d 8c2f1b 8f8d8a d8d5cf 3a3f8f"
IRISES = "4a2a14 6b4423 7d6a34 4f7a45 3f6f9f 7fa3bf 6f7b80"
LIPS = "b5484d c9646a a03a4a 8c3b35"
STYLES = ("bald", "short", "short", "short", "short", "bob", "bob", "long", "long", "bun")


@dataclass(frozen=True)
class Person:
    """What the parts of one face share."""

    head: Pose
    body: Pose
    skin: Colour
    hair: Colour
    iris: Colour
    clothes: Colour
    style: str
    curl: Real


def someone(rng: Generator, side: int) -> Person:
    """A person at random, placed on a canvas of given side."""
    place = side * np.array([rng.normal(0.5, 0.06), rng.uniform(0.4, 0.49)])
    scale, width, roll = (
        side * rng.uniform(0.26, 0.36),
        rng.uniform(0.74, 0.86),
        rng.normal(0, 0.16),
    )
    head = Pose(place, scale, width, roll, rng.uniform(-0.45, 0.45), rng.uniform(-0.2, 0.2))
    # The head leans on the neck: head and body agree on where that is.
    body, nape = Pose(place, scale, roll=roll / 5), np.array([[0.0, 0.8]])
    body = Pose(place + (head.flat(nape) - body.flat(nape))[0], scale, roll=roll / 5)
    skin, hair, iris = (pick(rng, palette) for palette in (SKINS, HAIRS, IRISES))
    style, curl = str(rng.choice(STYLES)), rng.choice([0.0, 0.0, 0.05, 0.1])
    return Person(head, body, skin, hair, iris, any_colour(rng), style, curl)


def background(canvas: Canvas, person: Person, rng: Generator) -> None:
    """A patterned wall, at times in colours of the person, with things on it."""
    own = [person.skin, person.hair, person.clothes, person.iris]
    a, b = rng.permutation([*own, *(any_colour(rng) for _ in range(9))])[:2]
    canvas.picture.paste(texture(rng, canvas.side, a, mix(a, b, rng.uniform(0.2, 0.9))))
    for _ in range(rng.integers(4) * rng.integers(2)):
        at = Pose(rng.uniform(0, canvas.side, 2), canvas.side, roll=rng.uniform(0, 3))
        size, kind = rng.uniform(0.03, 0.1), rng.integers(3)
        blob = ellipse(0, 0, size, size * rng.uniform(0.5, 1))
        canvas.paint(at.flat(blob), (person.skin, person.hair, WHITE)[kind], NOTHING)
        if kind == 2:  # looks like an eye, and is none
            canvas.paint(at.flat(ellipse(0, 0, size / 2, size / 2)), person.iris, NOTHING)
            canvas.paint(at.flat(ellipse(0, 0, size / 4, size / 4)), BLACK, NOTHING)


def back_hair(canvas: Canvas, person: Person, rng: Generator) -> None:
    """What hangs behind neck and shoulders, or a bun on top."""
    end = rng.uniform(0.7, 1.0) if person.style == "bob" else rng.uniform(1.3, 2.0)
    if person.style in ("bob", "long"):
        mane = smooth([(1.15, end), (1.25, 0.4), (1.1, -0.5), (0.5, -1.1)])
        canvas.paint(person.head.flat(mane), mix(person.hair, BLACK, 0.35), HAIR)
    if person.style == "bun":
        bun = ellipse(person.head.yaw * 0.6, -1.2, 0.42, 0.36)
        canvas.paint(person.head.flat(bun), mix(person.hair, BLACK, 0.15), HAIR)


def clothes(canvas: Canvas, person: Person, rng: Generator) -> None:
    """Shoulders under cloth, plain or patterned."""
    x, tall = np.linspace(-1, 1, 41), rng.uniform(0.5, 0.9)
    top = rng.uniform(1.12, 1.25) + tall * np.abs(x) ** 2.6
    shape = person.body.flat(between(rng.uniform(1.45, 1.8) * x, top, 5.0))
    canvas.paint(shape, person.clothes, CLOTHES)
    if rng.random() < 0.45:
        cloth = texture(rng, canvas.side, person.clothes, any_colour(rng))
        canvas.shade(shape, cloth, CLOTHES, 0.9)
    for side in (-1, 1):
        arm = smooth([(side * 1.1, 2.0), (side * 1.2, 5.0), (side * 1.05, 5.0)], mirrored=False)
        canvas.shade(person.body.flat(arm), BLACK, CLOTHES, 0.4, person.head.scale / 20)


def neck(canvas: Canvas, person: Person, rng: Generator) -> None:
    """Neck and neckline in the shade of the chin, or a polo neck."""
    head, body, wide = person.head, person.body, rng.uniform(0.36, 0.46)
    ends = head.flat(np.array([[wide, 0.4], [-wide, 0.4]]))
    canvas.paint(
        np.concatenate([ends, body.flat(np.array([[-wide, 1.2], [wide, 1.2]]))]), person.skin, SKIN
    )
    x, low, rim = np.linspace(-1, 1, 41), rng.uniform(1.3, 1.6), mix(person.clothes, BLACK, 0.25)
    hem = low - (low - 1.12) * np.abs(x) ** rng.choice([1.0, 2.5])
    canvas.paint(body.flat(between(wide * x, 1.0, hem)), person.skin, SKIN)
    canvas.stroke(body.flat(curve(wide * x, hem)), rim, CLOTHES, head.scale / 12)
    if rng.random() < 0.25:
        polo = smooth([(wide + 0.05, 0.95), (0.55, 1.35), (0.03, low)])
        canvas.paint(body.flat(polo), rim, CLOTHES)
    shadow = head.flat(ellipse(0, 0.85, 0.7, 0.42))
    canvas.shade(shadow, mix(person.skin, BLACK, 0.6), SKIN, 0.7, head.scale / 12)


def ears(canvas: Canvas, person: Person, _: Generator) -> None:
    """Two ears, of which a turned head hides one."""
    head, inside = person.head, mix(person.skin, BLACK, 0.35)
    for side in (-1, 1):
        x = side * 0.99 * np.cos(head.yaw) - 0.2 * np.sin(head.yaw)
        canvas.paint(head.flat(ellipse(x, 0.08, 0.15, 0.22)), person.skin, SKIN)
        canvas.shade(head.flat(ellipse(x, 0.08, 0.08, 0.14)), inside, SKIN, 0.6, head.scale / 40)


def skull(canvas: Canvas, person: Person, rng: Generator) -> None:
    """The shape of the head, with red cheeks and at times with stubble."""
    head, outline, jaw = person.head, ellipse(0, 0, 1, 1), rng.uniform(0, 0.22)
    below = np.clip(outline[:, 1], 0, 1)
    outline[:, 0] *= (1 - jaw * below) * (1 + 0.25 * below**2 * (1 - below))
    canvas.paint(head.flat(outline), person.skin, SKIN)
    if rng.random() < 0.15:
        stubble = head.face(smooth([(0.05, 0.3), (0.95, 0.2), (0.6, 1)]))
        canvas.shade(stubble, mix(person.hair, BLACK, 0.6), SKIN, 0.35, head.scale / 12)
    blush = mix(person.skin, np.array([200.0, 40.0, 40.0]), 0.5)
    for x in (-0.5, 0.5):
        cheek = head.face(ellipse(x, 0.32, 0.2, 0.15))
        canvas.shade(cheek, blush, SKIN, rng.uniform(0.1, 0.5), head.scale / 10)


def nose(canvas: Canvas, person: Person, rng: Generator) -> None:
    """A nose that stands out of the face, shaded on its far side."""
    head, wide, tip = person.head, rng.uniform(0.14, 0.24), rng.uniform(0.3, 0.42)
    side = [(0.07, 0.05), (wide, tip - 0.08), (0.8 * wide, tip + 0.04), (0.03, tip + 0.09)]
    shape = smooth([(0.06, -0.12), *side])
    depth = 1 + 0.25 * np.clip((shape[:, 1] + 0.1) / tip, 0, 1)
    canvas.paint(head.face(shape, depth), mix(person.skin, WHITE, 0.08), NOSE)
    shadow = shape * [0.5, 1] - np.array([np.copysign(0.5 * wide, head.yaw), 0])
    canvas.shade(head.face(shadow, depth), mix(person.skin, BLACK, 0.5), NOSE, 0.5, head.scale / 30)
    for x in (-wide / 2, wide / 2):
        nostril = head.face(ellipse(x, tip + 0.04, 0.045, 0.025), 1.2)
        canvas.shade(nostril, mix(person.skin, BLACK, 0.8), NOSE, 0.9)


def mouth(canvas: Canvas, person: Person, rng: Generator) -> None:
    """Lips that smile or sulk, closed or open."""
    x, face = np.linspace(-1, 1, 41), person.head.face
    wide, smile, thick = rng.uniform([0.24, -0.04, 0.04], [0.38, 0.18, 0.085])
    arch, gap = 1 - x**2, rng.uniform(0.08, 0.22) * (rng.random() < 0.5)
    middle, full = 0.6 + smile * (arch - 0.5), thick * arch**0.6
    upper, lower = middle - 0.3 * gap * arch, middle + 0.7 * gap * arch
    bow = 1 - 0.3 * np.exp(-((x / 0.15) ** 2))
    colour = mix(pick(rng, LIPS), person.skin, rng.uniform(0.1, 0.5))
    canvas.paint(face(between(wide * x, upper - full * bow, lower + 1.3 * full)), colour, MOUTH)
    line = face(curve(wide * x, middle))
    canvas.stroke(line, mix(colour, BLACK, 0.7), MOUTH, person.head.scale / 40)
    if gap:
        inside, teeth = (
            between(wide * x, upper, lower),
            between(wide * x, upper, upper + 0.4 * gap * arch),
        )
        tongue = between(0.7 * wide * x, lower - 0.3 * gap * arch, lower - 0.02)
        canvas.paint(face(inside), mix(colour, BLACK, 0.85), MOUTH)
        canvas.shade(face(tongue), mix(colour, WHITE, 0.2), MOUTH, 0.8)
        canvas.shade(face(teeth), WHITE, MOUTH, 1)


def eyes(canvas: Canvas, person: Person, rng: Generator) -> None:
    """Two eyes that look the same way, each with iris, pupil, glint and lashes."""
    scale, face, wide = person.head.scale, person.head.face, rng.uniform(0.17, 0.22)
    almond = ellipse(0, 0, wide, rng.uniform(0.075, 0.13))
    almond[:, 1] *= 0.95 - 0.3 * (almond[:, 0] / wide) ** 4
    look, up = rng.uniform([-0.07, -0.04], [0.07, 0.02])
    for x in (-0.38, 0.38):
        eye, socket = almond + np.array([x, 0]), ellipse(x, -0.03, 1.3 * wide, 0.2)
        canvas.shade(face(socket), mix(person.skin, BLACK, 0.5), SKIN, 0.45, scale / 16)
        canvas.paint(face(eye), WHITE, EYES)
        canvas.shade(face(ellipse(x + look, up, 0.105, 0.105)), person.iris, EYES, 1)
        canvas.shade(face(ellipse(x + look, up, 0.05, 0.05)), BLACK, EYES, 1)
        canvas.shade(face(ellipse(x + look + 0.04, up - 0.04, 0.02, 0.02)), WHITE, EYES, 1)
        canvas.stroke(face(eye[24:]), mix(person.hair, BLACK, 0.8), EYES, scale / 22)


def brows(canvas: Canvas, person: Person, rng: Generator) -> None:
    """Two brows, straight or arched, at times one of them raised."""
    x, colour = np.linspace(-1, 1, 21), mix(person.hair, BLACK, 0.4)
    thick, wide, arch, tilt = rng.uniform([0.035, 0.21, 0.02, -0.08], [0.075, 0.27, 0.1, 0.08])
    for side in (-1, 1):
        top = -0.27 + arch * (x**2 - 1) + tilt * x - rng.uniform(0, 0.06)
        taper = thick * (1.15 - x) ** 0.5
        brow = between(side * (0.4 + wide * x), top - taper / 2, top + taper)
        canvas.paint(person.head.face(brow), colour, BROWS)


def glasses(canvas: Canvas, person: Person, rng: Generator) -> None:
    """On some; through clear lenses the eyes are seen, sunglasses hide them."""
    if rng.random() < 0.72:
        return
    face, dark, colour = person.head.face, rng.random() < 0.3, rng.uniform(5, 90, 3)
    wide, tall, power, width = rng.uniform([0.25, 0.18, 0.6, 0.03], [0.31, 0.26, 1, 0.06])
    for side in (-1, 1):
        lens = face(ellipse(side * 0.38, 0, wide, tall, power), 1.1)
        if dark:
            canvas.paint(lens, mix(colour, BLACK, 0.5), THING)
        for part in (EYES, SKIN, THING):
            canvas.shade(lens, WHITE, part, 0.12)
        arm = face(np.array([[side * (0.38 + wide), -0.04], [side * 0.98, -0.06]]), 1.1)
        for line in (np.concatenate([lens, lens[:2]]), arm):
            canvas.stroke(line, colour, THING, width * person.head.scale)
    bridge = np.array([[wide - 0.38, -0.03], [0, -0.07], [0.38 - wide, -0.03]])
    canvas.stroke(face(bridge, 1.15), colour, THING, width * person.head.scale)


def hair(canvas: Canvas, person: Person, rng: Generator) -> None:
    """The hair in front: a cap down to the hairline, with locks if it is long."""
    if person.style == "bald":
        return
    head, long, fringe = person.head, person.style in ("bob", "long"), rng.random() < 0.35
    x, high = np.linspace(0.99, -0.99, 61), rng.uniform(-0.5, -0.36) - 0.2 * (not fringe)
    line = high + (0.1 - high) * np.abs(x) ** rng.uniform(3, 7)
    line += rng.normal(0, 0.18) * x * (1 - x**2)
    line += (person.curl + 0.05 * fringe) * np.abs(np.sin(rng.uniform(5, 12) * x))
    cap = head.flat(dome(1.75 if long else 1.5, rng.uniform(1.06, 1.2), person.curl))
    shape = np.concatenate([cap, head.face(curve(x, line))])
    canvas.shade(shape + np.array([0, head.scale / 16]), BLACK, SKIN, 0.35, head.scale / 30)
    canvas.paint(shape, person.hair, HAIR)
    for side in (-1, 1) if long else ():
        lock = [(0.8, -0.4), (1.1, -0.6), (1.2, 0.2), (1.2, rng.uniform(0.8, 1.7)), (0.86, 0.5)]
        shape = smooth([(side * x, y) for x, y in lock], mirrored=False)
        canvas.paint(head.flat(shape), person.hair, HAIR)


def strands(canvas: Canvas, person: Person, rng: Generator) -> None:
    """Light and dark streaks along the hair, and a shine."""
    head, y = person.head, np.array([-1.3, -0.7, 0.0, 1.8])
    for x in np.linspace(-1, 1, 5) + rng.normal(0, 0.12, 5):
        streak = between(y, x - 0.03, x + np.array([0, 0.02, 0.05, 0]))[:, ::-1]
        canvas.shade(
            head.flat(streak), (BLACK, WHITE)[rng.integers(2)], HAIR, 0.12, head.scale / 50
        )
    for reach in (0.5, 0.35):
        arc = dome(reach, 1.0) + np.array([head.yaw - 0.1, 0])
        shine = np.concatenate([arc, arc[::-1] * [1, 0.85]])
        canvas.shade(head.flat(shine), WHITE, HAIR, 0.15, head.scale / 20)


def hat(canvas: Canvas, person: Person, rng: Generator) -> None:
    """On some a woolly hat, a cap or a hat with a brim."""
    head, kind = person.head, rng.integers(15)
    if kind > 2:
        return
    colour = (person.hair, person.skin, *4 * [any_colour(rng)])[rng.integers(6)]
    x, dark = np.linspace(1, -1, 41), mix(colour, BLACK, 0.3)
    rim = head.face(curve(x, -0.42 - 0.12 * x**2), 1.15)
    crown = head.flat(dome(1.3, 1.26) * [0.97, 1.06])
    canvas.paint(np.concatenate([crown, rim]), colour, THING)
    if kind == 0:
        canvas.paint(head.face(between(x, -0.66, -0.4 - 0.1 * x**2), 1.2), dark, THING)
        canvas.paint(head.flat(ellipse(0, -1.4, 0.2, 0.2)), mix(colour, WHITE, 0.5), THING)
    elif kind == 1:
        canvas.paint(head.face(smooth([(0.75, -0.55), (0.6, -0.3)]), 1.5), dark, THING)
    else:
        canvas.paint(head.flat(ellipse(0, -0.55, 1.75, 0.2)), mix(colour, WHITE, 0.15), THING)
