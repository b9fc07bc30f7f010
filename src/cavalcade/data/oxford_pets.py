"""Oxford-IIIT Pet: portraits of cats and dogs of 37 breeds, cut out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from cavalcade.data.files import ImageFile
from cavalcade.data.index_maps import IndexMapSplit, Legend
from cavalcade.data.links import Links
from cavalcade.data.names import brief
from cavalcade.data.published import ANEW, Published
from cavalcade.data.tables import read_lines, whole_number
from cavalcade.errors import InputError, check_choice

PET, BACKGROUND, NOT_CLASSIFIED = 1, 2, 3
SPECIES = ("cat", "dog")
LABELS = ("species", "breeds")


class Pet(NamedTuple):
    """A row of the lists: the image, the breed's number, and 0 for a cat or 1 for a dog."""

    image: str
    breed: int
    species: int

    @property
    def breed_name(self) -> str:
        """As the names of its images say, in small letters."""
        return self.image.rsplit("_", 1)[0].replace("_", " ").lower()


@dataclass(kw_only=True)
class OxfordPets(Published):
    """The trimaps of the Oxford-IIIT Pet data set (Parkhi et al., CVPR 2012).

    `root` holds `images/*.jpg`, `annotations/trimaps/*.png` and
    `annotations/{trainval,test}.txt`. The outline of the pet, which is not classified, is void.

    Attributes:
        labels: `species` for the concepts cat and dog, `breeds` for the 37 breeds.
    """

    title = "Oxford-IIIT Pet"
    source = (
        "unpack images.tar.gz and annotations.tar.gz of "
        "https://www.robots.ox.ac.uk/~vgg/data/pets/ in data.root, which then holds images/ "
        "and annotations/"
    )
    official = ("trainval", "test")
    name: str = "oxford_pets"
    labels: str = "species"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("data.labels", self.labels, LABELS)

    def listed(self, official: str) -> tuple[Path, Mapping[Path, Path]]:
        """The images of one list, which torchvision would look for in another folder."""
        home, trimaps = self.there("images"), self.there("annotations/trimaps")
        listing = self.there(f"annotations/{official}.txt")
        names = self.named(listing, [pet.image for pet in read_pets(listing)])
        return home, {home / f"{name}.jpg": trimaps / f"{name}.png" for name in names}

    def legend(self) -> Legend:
        """That of an image without a pet, for a trimap does not say which pet it shows."""
        return Legend(
            concepts=dict.fromkeys(self._names(), ()),
            void=(NOT_CLASSIFIED,),
            background=(PET, BACKGROUND),
            otherwise=self.otherwise,
        )

    def labelled(
        self, files: Sequence[ImageFile], index_maps: Mapping[Path, Path]
    ) -> IndexMapSplit:
        """A split that knows which pet each image shows."""
        names = {pet.image: self._name(pet) for pet in self._pets}
        shown = [names[file.path.stem] for file in files]
        return PetSplit(files, index_maps, self.chosen(self.legend()), self.links, shown)

    @cached_property
    def _pets(self) -> list[Pet]:
        """All pets by breed."""
        pets: dict[str, Pet] = {}
        for path in (self.there(f"annotations/{official}.txt") for official in self.official):
            for pet in read_pets(path):
                if pet.image in pets:
                    raise InputError(f"{path} names {brief(pet.image)} for a second time; {ANEW}")
                pets[pet.image] = pet
        return sorted(pets.values(), key=lambda pet: pet.breed)

    def _names(self) -> Sequence[str]:
        if self.labels == "species":
            return SPECIES
        return tuple(dict.fromkeys(map(self._name, self._pets)))

    def _name(self, pet: Pet) -> str:
        return SPECIES[pet.species] if self.labels == "species" else pet.breed_name


class PetSplit(IndexMapSplit):
    """A split whose trimaps say where a pet is, and whose lists say which it is."""

    def __init__(
        self,
        files: Sequence[ImageFile],
        index_maps: Mapping[Path, Path],
        legend: Legend,
        links: Links,
        shown: Sequence[str],
    ) -> None:
        """`shown` names the pet of each image."""
        super().__init__(files, index_maps, legend, links)
        self.shown = tuple(shown)
        self.legends = {
            name: replace(legend, concepts={**legend.concepts, name: (PET,)})
            for name in legend.concepts
        }

    def legend_of(self, index: int) -> Legend:
        """The pixels of a pet are the concept that the image shows, if it is one."""
        return self.legends.get(self.shown[index], self.legend)


def read_pets(path: Path) -> list[Pet]:
    """The rows of `trainval.txt`, `test.txt` or `list.txt`.

    Raises:
        InputError: if a row is not the image, the class, the species (1 or 2) and the breed.
    """
    pets = []
    for row in read_lines(path, ANEW):
        if row.startswith("#"):
            continue
        fields = row.split()
        breed = whole_number(fields[1]) if len(fields) == 4 else None
        if breed is None or fields[2] not in ("1", "2"):
            raise InputError(
                f"{path} has the row {brief(row)}, which is not an image, its class, its "
                f"species (1 or 2) and its breed; {ANEW}"
            )
        pets.append(Pet(fields[0], breed, ("1", "2").index(fields[2])))
    return pets
