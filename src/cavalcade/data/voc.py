"""PASCAL VOC: photographs with 20 kinds of objects."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torchvision.datasets.voc import DATASET_YEAR_DICT

from cavalcade.data.index_maps import Legend
from cavalcade.data.published import ANEW, Published
from cavalcade.data.tables import read_lines
from cavalcade.errors import check_choice

# Their values count from 1, in the order of the alphabet.
CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)
YEARS = range(2007, 2013)


@dataclass(kw_only=True)
class PascalVoc(Published):
    """The segmentations of PASCAL VOC (Everingham et al., IJCV 2010).

    `root` holds `VOCdevkit/VOC2012` with `JPEGImages/`, `SegmentationClass/` and
    `ImageSets/Segmentation/`; for 2011, `TrainVal/VOCdevkit/VOC2011`. The outlines of the
    objects, and objects that are difficult, are void.

    The official validation split is `test`.

    Attributes:
        year: of the challenge; 2012 holds the images of the years before.
    """

    title = "PASCAL VOC"
    source = (
        "unpack VOCtrainval_11-May-2012.tar, or that of another data.year, of "
        "http://host.robots.ox.ac.uk/pascal/VOC/ in data.root"
    )
    official = ("train", "val")
    name: str = "voc"
    year: int = 2012

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("data.year", str(self.year), map(str, YEARS))

    def listed(self, official: str) -> tuple[Path, Mapping[Path, Path]]:
        """The images that `ImageSets/Segmentation` lists."""
        base = DATASET_YEAR_DICT[str(self.year)]["base_dir"]
        listing = self.there(f"{base}/ImageSets/Segmentation/{official}.txt")
        home, masks = self.there(f"{base}/JPEGImages"), self.path / base / "SegmentationClass"
        names = self.named(listing, [line.strip() for line in read_lines(listing, ANEW)])
        return home, {home / f"{name}.jpg": masks / f"{name}.png" for name in names}

    def legend(self) -> Legend:
        """The 20 classes."""
        return Legend(
            concepts={name: (i,) for i, name in enumerate(CLASSES, 1)},
            void=(255,),
            background=(0,),
            otherwise=self.otherwise,
        )
