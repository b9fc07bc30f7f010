"""A small folder in the format of CelebAMask-HQ, with drawn faces."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from cavalcade.data import Faces

IMAGES = {"train": 12, "val": 4, "test": 6}
FIRST = 1990  # so that masks lie in two folders
PARTS = {"skin": "skin", "hair": "hair", "nose": "nose", "mouth": "mouth", "clothes": "cloth"}
SIDES = {"eyes": "eye", "brows": "brow"}


def write_celeba(
    root: Path, images: Mapping[str, int] = IMAGES, *, size: int = 128, identities: bool = True
) -> Path:
    """Faces of `size` pixels with masks of half that, two portraits of a subject in a row.

    Images are numbered from `FIRST`, those of train before those of val and test.
    """
    faces = Faces(num_images=dict(images), size=size)
    mapping, partition, identity = ["idx     orig_idx     orig_file    "], [], []
    i = FIRST
    for code, (split, count) in enumerate(images.items()):
        drawn = faces.open(split)
        for k in range(count):
            original = f"{3 * i + 1:06d}.jpg"
            mapping.append(f"{i}       {3 * i}       {original}")
            partition.append(f"{original} {code}")
            identity.append(f"{original} {100 * code + k // 2}")
            write_portrait(root, i, *drawn[k][:2], drawn.concepts)
            i += 1
    write_lines(root / "CelebA-HQ-to-CelebA-mapping.txt", mapping)
    write_lines(root / "list_eval_partition.txt", [*partition, "202599.jpg 2"])
    if identities:
        write_lines(root / "identity_CelebA.txt", identity)
    return root


def write_portrait(root, i, image, masks, concepts) -> None:
    picture = root / "CelebA-HQ-img" / f"{i}.jpg"
    picture.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(picture, quality=95)
    for concept, mask in zip(concepts, masks[:, ::2, ::2].numpy(), strict=True):
        if concept in PARTS:
            write_part(root, i, PARTS[concept], mask)
        else:
            columns = np.nonzero(mask)[1]
            left = np.arange(mask.shape[1]) < (columns.mean() if columns.size else 0)
            write_part(root, i, f"l_{SIDES[concept]}", mask & left)
            write_part(root, i, f"r_{SIDES[concept]}", mask & ~left)


def write_part(root: Path, i: int, part: str, mask: np.ndarray) -> None:
    """As published, a black and white picture in RGB, and none for what is absent."""
    if mask.any():
        path = root / "CelebAMask-HQ-mask-anno" / str(i // 2000) / f"{i:05d}_{part}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(255 * mask.astype(np.uint8)).convert("RGB").save(path)


def write_lines(path: Path, lines: list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
