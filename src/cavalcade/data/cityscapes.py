"""Cityscapes: streets of German cities, seen from a car."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torchvision import datasets

from cavalcade.data.index_maps import Legend
from cavalcade.data.pictures import IMAGE_SUFFIXES
from cavalcade.data.published import Published
from cavalcade.errors import InputError


@dataclass(kw_only=True)
class Cityscapes(Published):
    """The 19 evaluated classes of the fine annotations (Cordts et al., CVPR 2016).

    `root` holds `leftImg8bit/{train,val}/<city>/` and `gtFine/{train,val}/<city>/`. The classes
    that are left out of the evaluation are void. A city is a group, unless the user names
    others.

    The official validation split is `test`; the official test split has no labels.
    """

    title = "Cityscapes"
    source = (
        "unpack leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip of "
        "https://www.cityscapes-dataset.com/downloads/ in data.root, which then holds "
        "leftImg8bit/ and gtFine/"
    )
    official = ("train", "val")
    name: str = "cityscapes"
    grid: Sequence[int] = (64, 128)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.group_pattern is None and self.groups_csv is None:
            self.group_pattern = "^[^/]+"  # the folder of the city

    def listed(self, official: str) -> tuple[Path, Mapping[Path, Path]]:
        """The images of all cities of a split."""
        home = self.there(f"leftImg8bit/{official}")
        twin = self.there(f"gtFine/{official}")
        try:
            images = [image for city in home.iterdir() for image in city.iterdir()]
        except OSError as error:
            raise InputError(
                f"{home} and its twin in gtFine must hold a folder for each city and nothing else "
                f"({error}); remove what else is there"
            ) from error
        return home, {
            image: twin / image.parent.name / _index_map_of(image.name)
            for image in images
            if image.suffix.lower() in IMAGE_SUFFIXES
        }

    def legend(self) -> Legend:
        """The classes of torchvision's table."""
        classes = datasets.Cityscapes.classes
        return Legend(
            concepts={each.name: (each.id,) for each in classes if not each.ignore_in_eval},
            void=[each.id for each in classes if each.ignore_in_eval],
            otherwise=self.otherwise,
        )


def _index_map_of(image: str) -> str:
    """What the semantic index map of an image is called."""
    return f"{image.split('_leftImg8bit')[0]}_gtFine_labelIds.png"
