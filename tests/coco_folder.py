"""A small folder in the layout of COCO: coloured figures, discs and squares."""

import json

import numpy as np
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask

from cavalcade.data.body_parts import KEYPOINTS

PERSON, CAT, DOG = 1, 17, 18
CATEGORIES = [
    {"id": PERSON, "name": "person", "supercategory": "person"},
    {"id": CAT, "name": "cat", "supercategory": "animal"},
    {"id": DOG, "name": "dog", "supercategory": "animal"},
]
COLOURS = {
    "head": (240, 190, 160),
    "torso": (200, 30, 60),
    "arms": (250, 120, 140),
    "legs": (120, 20, 110),
    CAT: (30, 60, 220),
    DOG: (245, 205, 20),
}
UNANNOTATED, GREY, HANDLESS = 4, 2, 6

# Half of a standing person, right of the middle, in shares of the stature.
JOINTS = {
    "nose": (0, 0.075),
    "eye": (0.018, 0.06),
    "ear": (0.043, 0.068),
    "shoulder": (0.105, 0.185),
    "elbow": (0.14, 0.37),
    "wrist": (0.15, 0.515),
    "hip": (0.055, 0.475),
    "knee": (0.06, 0.72),
    "ankle": (0.06, 0.96),
}
SHAPES = {
    "torso": [[(-0.12, 0.16), (0.12, 0.16), (0.1, 0.5), (-0.1, 0.5)]],
    "arms": [
        [(0.1 * s, 0.16), (0.14 * s, 0.17), (0.185 * s, 0.6), (0.12 * s, 0.6)] for s in (1, -1)
    ],
    "legs": [
        [(0.005 * s, 0.48), (0.1 * s, 0.48), (0.1 * s, 1.0), (0.015 * s, 1.0)] for s in (1, -1)
    ],
    "head": [
        [(0.05 * np.cos(t), 0.075 + 0.075 * np.sin(t)) for t in np.linspace(0, 2 * np.pi, 16)]
    ],
}


def standing(stature, x, y, flags=None):
    """Keypoints (17, 3) of a person seen from the front, the crown of the head at (x, y)."""
    flags = flags or {}
    rows = []
    for name in KEYPOINTS:
        side, _, joint = name.rpartition("_")
        across, down = JOINTS[joint]
        across = -across if side == "right" else across
        visible = flags.get(name, flags.get(joint, 2))
        rows.append((x + stature * across, y + stature * down, visible))
    return np.array([row if row[2] else (0, 0, 0) for row in rows], float)


def pixels_of(segmentation, shape):
    """The pixels that polygons cover, up to those on their edges."""
    pixels = Image.new("1", shape[::-1])
    for polygon in segmentation:
        # between their centres, as COCO fills them
        ImageDraw.Draw(pixels).polygon((np.array(polygon) - 0.5).tolist(), fill=1)
    return np.array(pixels)


def runs_of(mask, *, compressed=False):
    """Run lengths of a mask, as COCO writes them."""
    if compressed:
        runs = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
        return {"size": list(mask.shape), "counts": runs["counts"].decode()}
    flat = np.concatenate([[False], mask.flatten(order="F")])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    counts = np.diff([0, *edges, mask.size])
    return {"size": list(mask.shape), "counts": counts.tolist()}


def figure(stature, x, y):
    """The polygons of each part of a person."""
    return {
        part: [np.add(np.multiply(p, stature), (x, y)).ravel().round(2).tolist() for p in polygons]
        for part, polygons in SHAPES.items()
    }


def drawn(index, shape, rng):
    """A picture and its annotations, without their ids."""
    rows, columns = shape
    picture = rng.integers(90, 130, (*shape, 3)).astype(np.uint8)
    annotations = []

    def add(category, segmentation, parts, **fields):
        for colour, pixels in parts:
            noise = rng.integers(-12, 12, (*shape, 3))
            painted = np.clip(np.add(COLOURS[colour], noise), 0, 255).astype(np.uint8)
            picture[pixels] = painted[pixels]
        annotations.append(
            {"category_id": category, "segmentation": segmentation, "iscrowd": 0, **fields}
        )

    slots = [(slot + 0.5) * columns / 3 for slot in rng.permutation(3)]
    if index == UNANNOTATED:
        return picture, annotations
    if index % 4 != 3:
        stature, x, y = 0.8 * min(shape), slots[0], rng.uniform(2, 0.15 * rows)
        polygons = figure(stature, x, y)
        keypoints = standing(stature, x, y, {"wrist": 0} if index == HANDLESS else None)
        add(
            PERSON,
            [polygon for part in polygons.values() for polygon in part],
            [(part, pixels_of(shapes, shape)) for part, shapes in polygons.items()],
            keypoints=keypoints.round().astype(int).ravel().tolist(),
            num_keypoints=int((keypoints[:, 2] > 0).sum()),
        )
    grid_y, grid_x = np.mgrid[:rows, :columns]
    radius, middle = 0.13 * min(shape), rng.uniform(0.3, 0.7) * rows
    if index % 2 == 1:
        disc = np.hypot(grid_x - slots[1], grid_y - middle) < radius
        add(CAT, runs_of(disc, compressed=index % 4 == 1), [(CAT, disc)])
    if index % 8 == 0:  # small people where a cat would be
        crowd = (abs(grid_x - slots[1]) < radius) & (abs(grid_y - middle) < 2 * radius)
        add(
            PERSON,
            runs_of(crowd),
            [("torso", crowd & (grid_x % 4 < 3))],
            **{"iscrowd": 1, "keypoints": [0] * 51, "num_keypoints": 0},
        )
    if index % 3 != 1:
        side, left, top = int(2 * radius), int(slots[2] - radius), int(rng.uniform(0.3, 0.6) * rows)
        right, bottom = left + side, top + side
        square = (grid_x >= left) & (grid_x < right) & (grid_y >= top) & (grid_y < bottom)
        add(DOG, [[left, top, right, top, right, bottom, left, bottom]], [(DOG, square)])
    return picture, annotations


def write_json(root, part, images, annotations, categories=CATEGORIES, kind="instances"):
    """One annotation file; what is left out of an annotation is filled in."""
    filled = [
        {"id": i, "image_id": 1, "category_id": PERSON, "iscrowd": 0, "area": 1.0, **annotation}
        for i, annotation in enumerate(annotations, 1)
    ]
    content = {
        "info": {"description": "drawn"},
        "licenses": [],
        "images": images,
        "annotations": filled,
        "categories": categories,
    }
    path = root / f"annotations/{kind}_{part}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def write_image(root, part, id, pixels, **options):
    """One JPEG file, and what the JSON says about it."""
    name = f"{id:012d}.jpg"
    path = root / part / name
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(np.asarray(pixels, np.uint8))
    picture.save(path, quality=95, subsampling=0, **options)
    return {"id": id, "file_name": name, "height": picture.height, "width": picture.width}


def write_coco(root, images_per_split=None, size=(96, 128), year=2017):
    """Draw both published splits, pictures of a size upright and turned in turn.

    Args:
        root: the folder, which is made.
        images_per_split: number of images of train and val; 12 and 6 by default.
        size: rows and columns of every other picture.
        year: of the layout.
    """
    for seed, (split, count) in enumerate((images_per_split or {"train": 12, "val": 6}).items()):
        rng = np.random.default_rng(seed)
        part, images, annotations = f"{split}{year}", [], []
        for index in range(count):
            shape = tuple(size) if index % 2 == 0 else tuple(size)[::-1]
            picture, found = drawn(index, shape, rng)
            if index == GREY:
                picture = picture.mean(axis=2)
            id = 1000 * (seed + 1) + 7 * index
            images.append(write_image(root, part, id, picture))
            annotations += [{**annotation, "image_id": id} for annotation in found]
        plain = [{k: v for k, v in each.items() if "keypoints" not in k} for each in annotations]
        write_json(root, part, images, plain)
        persons = [each for each in annotations if each["category_id"] == PERSON]
        person = {**CATEGORIES[0], "keypoints": list(KEYPOINTS), "skeleton": [[16, 14]]}
        write_json(root, part, images, persons, [person], kind="person_keypoints")
    return root
