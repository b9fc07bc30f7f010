"""Small folders in the layouts of published data sets, of scenes that a probe can learn.

Each has 12 images to train on and 6 to test on, of 64x96 pixels: a sky, a ground, and between
them a disc with an outline, each in a colour of its own.
"""

from pathlib import Path

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 64, 96
# The parts of a scene.
MIDDLE, SKY, GROUND, DISC, OUTLINE = range(5)
COLOURS = np.array([(200, 190, 120), (90, 150, 240), (90, 90, 90), (220, 40, 40), (20, 20, 20)])
TRAIN, TEST = 12, 6

ADE20K_NAMES = {1: "wall", 2: "building, edifice", 3: "sky", 7: "road, route", 21: "car, auto"}
PETS = {"Abyssinian": (1, 1, 1), "Bengal": (6, 1, 2), "beagle": (5, 2, 1), "pug": (26, 2, 2)}
CAT_COLOUR = (60, 200, 60)


def scene(seed, disc=None):
    """A picture, and the part at each of its pixels; `disc` is the colour of the disc."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    parts = np.full((HEIGHT, WIDTH), MIDDLE)
    parts[y < rng.integers(12, 22)] = SKY
    parts[y > rng.integers(42, 52)] = GROUND
    radius = rng.integers(9, 15)
    distance = np.hypot(y - rng.integers(24, 40), x - rng.integers(20, 76))
    parts[distance < radius + 2] = OUTLINE
    parts[distance < radius] = DISC
    colours = COLOURS.copy()
    colours[DISC] = COLOURS[DISC] if disc is None else disc
    noisy = colours[parts] + rng.normal(0, 12, (HEIGHT, WIDTH, 3))
    return np.clip(noisy, 0, 255).astype(np.uint8), parts


def put(path, values, palette=False):
    """Write a picture or an index map."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(np.asarray(values, np.uint8))
    if palette:
        picture.putpalette(list(np.random.default_rng(0).integers(0, 256, 768)))
    picture.save(path)


def write_ade20k(root: Path) -> None:
    """Scenes with a sky (3), a road (7) and a car (21); all else is 0."""
    rows = [
        f"{i}\t0.1\t10\t1\t{ADE20K_NAMES.get(i, f'kind {i}, sort {i} ')}" for i in range(1, 151)
    ]
    root.mkdir(parents=True, exist_ok=True)
    text = "\n".join(["Idx\tRatio\tTrain\tVal\tName", *rows, ""])
    (root / "objectInfo150.txt").write_text(text, encoding="utf-8")
    values = np.array([0, 3, 7, 21, 0])
    seed = 0
    for split, short, count in (("training", "train", TRAIN), ("validation", "val", TEST)):
        for number in range(1, count + 1):
            picture, parts = scene(seed := seed + 1)
            name = f"ADE_{short}_{number:08d}"
            put(root / f"images/{split}/{name}.jpg", picture)
            put(root / f"annotations/{split}/{name}.png", values[parts])


def write_voc(root: Path, year: int = 2012) -> None:
    """Scenes with an aeroplane (1) above, a boat (4) below, and a cat (8) with a void outline."""
    home = root / f"VOCdevkit/VOC{year}"
    values = np.array([0, 1, 4, 8, 255])
    lists = home / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    seed = 0
    for split, count in (("train", TRAIN), ("val", TEST)):
        names = [f"{year}_{seed + i:06d}" for i in range(1, count + 1)]
        for name in names:
            picture, parts = scene(seed := seed + 1)
            put(home / f"JPEGImages/{name}.jpg", picture)
            put(home / f"SegmentationClass/{name}.png", values[parts], palette=True)
        (lists / f"{split}.txt").write_text("\n".join([*names, ""]), encoding="utf-8")


def write_cityscapes(root: Path) -> None:
    """Scenes with a sky (23), a road (7) and a car (26); the rest is unlabelled (0, 4)."""
    values = np.array([0, 23, 7, 26, 4])
    cities = {"train": ("aachen", "bochum", "bremen"), "val": ("frankfurt", "lindau")}
    seed = 0
    for split, count in (("train", TRAIN), ("val", TEST)):
        for city in cities[split]:
            for frame in range(count // len(cities[split])):
                picture, parts = scene(seed := seed + 1)
                stem = f"{split}/{city}/{city}_{frame:06d}_000019"
                put(root / f"leftImg8bit/{stem}_leftImg8bit.png", picture)
                put(root / f"gtFine/{stem}_gtFine_labelIds.png", values[parts])
                put(root / f"gtFine/{stem}_gtFine_instanceIds.png", values[parts])


def write_oxford_pets(root: Path) -> None:
    """Portraits of cats, which are green, and dogs, which are red, of two breeds each."""
    values = np.array([2, 2, 2, 1, 3])
    rows: dict[str, list[str]] = {"trainval": [], "test": []}
    seed = 0
    for split, count in (("trainval", TRAIN), ("test", TEST)):
        for number in range(count):
            breed = list(PETS)[number % len(PETS)]
            breed_class, species, own = PETS[breed]
            picture, parts = scene(seed := seed + 1, CAT_COLOUR if species == 1 else None)
            name = f"{breed}_{seed}"
            put(root / f"images/{name}.jpg", picture)
            put(root / f"annotations/trimaps/{name}.png", values[parts])
            rows[split].append(f"{name} {breed_class} {species} {own}")
    head = ["#Image CLASS-ID SPECIES BREED ID", "#SPECIES: 1:Cat 2:Dog"]
    lists = {**rows, "list": [*head, *rows["trainval"], *rows["test"]]}
    for name, lines in lists.items():
        text = "\n".join([*lines, ""])
        (root / f"annotations/{name}.txt").write_text(text, encoding="utf-8")
