"""A small folder in the format of Broden, with coloured shapes on plain or patterned ground."""

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

# What index.csv calls train and val; of train, one image in ten is held out.
IMAGES = {"train": 24, "val": 6}
CATEGORIES = ["color", "object", "part", "material", "scene", "texture"]
COLUMNS = ["image", "split", "ih", "iw", "sh", "sw", *CATEGORIES]
# As published: the numbers count through all categories, and some are above 255.
LABELS = {
    1: ("red-c", "color(18)"),
    2: ("green-c", "color(18)"),
    3: ("grey-c", "color(18)"),
    12: ("ball", "object(17)"),
    13: ("fabric", "material(14);object(2)"),
    14: ("wood", "material(14)"),
    260: ("top", "part(13)"),
    261: ("corner", "part(13)"),
    300: ("box", "object(17)"),
    400: ("yard-s", "scene(7)"),
    401: ("hall-s", "scene(7)"),
    500: ("striped", "texture(4)"),
    501: ("dotted", "texture(2)"),
}
NUMBERS = {name: number for number, (name, _) in LABELS.items()}
# Which categories each image in five is annotated for: all, and then one or more less.
ANNOTATED = (
    "color object part material",
    "color object scene",
    "color texture",
    "color object part material",
    "color object part material scene texture",
)


def write_broden(root: Path, images: Mapping[str, int] = IMAGES, *, size: int = 48) -> Path:
    """A red ball and a green box of other places in each image, label maps at half the size."""
    rows, rng = [], np.random.default_rng(0)
    for split, count in images.items():
        for i in range(count):
            picture, maps = draw(rng, size, striped=i % 5 == 2)
            name = f"shapes/{split}_{i:04d}.jpg"
            row = {"image": name, "split": split, "ih": size, "iw": size}
            row |= {"sh": size // 2, "sw": size // 2}
            put(root / "images" / name, picture, quality=95)
            for category in ANNOTATED[i % 5].split():
                row[category] = ";".join(
                    write_entry(root, f"{name[:-4]}_{category}", entry, number)
                    for number, entry in enumerate(maps[category], start=1)
                )
            rows.append(row)
    write_table(root / "index.csv", COLUMNS, rows)
    write_labels(root, LABELS)
    return root


def draw(rng, size, *, striped):
    """A picture (size, size, 3), and the label maps or whole-image labels of each category."""
    y, x = np.mgrid[:size, :size]
    half = size // 2
    ground = 110 + 40 * ((x // 4) % 2 if striped else (x // 4) % 2 * ((y // 4) % 2))
    at = [int(n) for n in rng.integers(size // 4, half - 1, 2)]
    ball = (y - at[0]) ** 2 + (x - at[1]) ** 2 <= (size // 6) ** 2
    top, left = (int(n) for n in rng.integers(half, size - size // 3, 2))
    side = size // 3
    box = (y >= top) & (y < top + side) & (x >= left) & (x < left + side)
    upper, corner = box & (y < top + side // 2), box & (x < left + side // 2)
    picture = np.repeat(ground[:, :, None], 3, axis=2)
    picture[ball], picture[box] = (220, 30, 30), (30, 200, 40)
    paint = {
        "color": [{"grey-c": y >= 0, "red-c": ball, "green-c": box}],
        "object": [{"ball": ball, "box": box}],
        "part": [{"top": upper}, {"corner": corner}],  # in layers, for they overlap
        "material": [{"fabric": ball, "wood": box}],
    }
    maps = {name: [number_map(layer, size) for layer in layers] for name, layers in paint.items()}
    maps["scene"] = [NUMBERS["yard-s" if at[0] < at[1] else "hall-s"]]
    maps["texture"] = [NUMBERS["striped"]] if striped else [NUMBERS["dotted"], NUMBERS["striped"]]
    return picture.astype(np.uint8), maps


def number_map(layer, size):
    numbers = np.zeros((size, size), dtype=int)
    for name, mask in layer.items():
        numbers[mask] = NUMBERS[name]
    return numbers[::2, ::2]


def write_entry(root, name, entry, layer) -> str:
    """What index.csv says of a whole-image label or of a label map, which is written."""
    if isinstance(entry, int):
        return str(entry)
    put_map(root / "images" / f"{name}_{layer}.png", entry)
    return f"{name}_{layer}.png"


def put_map(path: Path, numbers) -> None:
    numbers = np.asarray(numbers)
    put(path, np.stack([numbers % 256, numbers // 256, 0 * numbers], axis=-1))


def put(path: Path, values, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, np.uint8)).save(path, **options)


def write_labels(root: Path, labels: Mapping[int, tuple[str, str]]) -> None:
    columns = ["number", "name", "category", "frequency", "coverage", "syns"]
    write_table(
        root / "label.csv",
        columns,
        [
            {"number": number, "name": name, "category": category, "frequency": 9}
            for number, (name, category) in labels.items()
        ],
    )


def write_table(path: Path, columns, rows) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, columns, restval="")
        table.writeheader()
        table.writerows(rows)
