"""ADE20K: scenes indoors and outdoors, 150 kinds of things and stuff."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cavalcade.data.files import images_in
from cavalcade.data.index_maps import Legend
from cavalcade.data.names import brief, check_plain
from cavalcade.data.published import ANEW, Published
from cavalcade.data.tables import read_lines, whole_number
from cavalcade.errors import InputError

COLUMNS = 5  # of the list of classes


@dataclass(kw_only=True)
class Ade20k(Published):
    """The 150 classes of the scene parsing challenge (Zhou et al., CVPR 2017).

    `root` is ADEChallengeData2016: `images/{training,validation}/*.jpg`,
    `annotations/{training,validation}/*.png` and `objectInfo150.txt`, whose first synonym names
    each class. What is none of the 150 classes is void: all else is one value.

    The official validation split is `test`.
    """

    title = "ADE20K"
    source = (
        "unpack http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip and give "
        "data.root=.../ADEChallengeData2016, which holds images/, annotations/ and "
        "objectInfo150.txt"
    )
    official = ("training", "validation")
    name: str = "ade20k"

    def listed(self, official: str) -> tuple[Path, Mapping[Path, Path]]:
        """The images of a folder, each with the annotation of the same name."""
        home = self.there(f"images/{official}")
        masks = self.there(f"annotations/{official}")
        images = images_in(home)
        return home, {image: masks / f"{image.stem}.png" for image in images}

    def legend(self) -> Legend:
        """The classes of `objectInfo150.txt`."""
        classes = read_classes(self.there("objectInfo150.txt"))
        return Legend(concepts=classes, void=(0,), otherwise=self.otherwise)


def read_classes(path: Path) -> dict[str, Sequence[int]]:
    """The index of each class, which is called by its first synonym.

    A synonym that another class has taken is told from it by its index: "screen 131".

    Raises:
        InputError: if a row is not the index, three numbers and the names, tab separated, an
            index stands twice or is above 65535, or there is no row.
    """
    classes: dict[str, Sequence[int]] = {}
    for row in read_lines(path, ANEW)[1:]:
        fields = row.split("\t")
        number, name = whole_number(fields[0].strip()), fields[-1].split(",")[0].strip()
        if (
            len(fields) != COLUMNS
            or number is None
            or not 0 < number < 2**16
            or (number,) in classes.values()
            or not name
        ):
            raise InputError(
                f"{path} has the row {brief(row)}, which is not Idx, Ratio, Train, Val and Name, "
                f"tab separated, with an Idx of its own; {ANEW}"
            )
        check_plain(f"{path} names the class", (name,), ANEW)
        classes[f"{name} {number}" if name in classes else name] = (number,)
    if not classes:
        raise InputError(f"{path} holds no class; {ANEW}")
    return classes
