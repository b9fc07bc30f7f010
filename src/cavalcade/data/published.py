"""Data sets of index maps that lie as they were published, with two labelled splits."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from cavalcade.data.files import FileData, ImageFile
from cavalcade.data.index_maps import IndexMapSplit, Legend
from cavalcade.data.names import brief, is_plain, stays_below
from cavalcade.errors import InputError

ANEW = "get the file anew as it was published"


@dataclass(kw_only=True)
class Published(FileData):
    """A data set with a training and a test split; `val` is held out of the training split.

    What is held out is one group in ten, see `held_out`; an image is a group of its own where
    neither the data set nor the user names groups.
    """

    title: ClassVar[str]
    source: ClassVar[str]
    """Where the files come from and how they must lie below `root`."""
    official: ClassVar[tuple[str, str]]
    """How the publisher calls the training and the test split."""

    def open(self, split: str) -> IndexMapSplit:
        """List the files of one split; none of them is read.

        Raises:
            InputError: if the files do not lie as published, or there is nothing to hold out.
        """
        official = self.official[split == "test"]
        home, index_maps = self.listed(official)
        listed = self.in_groups(list(index_maps), home)
        files = self.part(listed, split)
        if not files:
            raise InputError(
                f"{home} has {len(listed)} images of the official split {official!r}, in "
                f"{len({file.group for file in listed})} group(s), which leave none for {split!r}; "
                "a group is never cut, so give at least two"
            )
        return self.labelled(files, index_maps)

    @abstractmethod
    def listed(self, official: str) -> tuple[Path, Mapping[Path, Path]]:
        """The folder that ids start from, and the index map of each image of a split."""

    @abstractmethod
    def legend(self) -> Legend:
        """What the values of the index maps mean."""

    def labelled(
        self, files: Sequence[ImageFile], index_maps: Mapping[Path, Path]
    ) -> IndexMapSplit:
        """A split of some files."""
        return IndexMapSplit(files, index_maps, self.chosen(self.legend()), self.links)

    def chosen(self, legend: Legend) -> Legend:
        """The legend of the concepts that the user chose."""
        return legend.only(self.wanted(tuple(legend.concepts)))

    def there(self, name: str) -> Path:
        """A file or folder below `root`.

        Raises:
            InputError: if it is missing, or lies elsewhere.
        """
        path = self.links.check(self.path / name)
        if not path.exists():
            raise InputError(
                f"data.root {self.root} does not hold {self.title} as it is published: "
                f"{name} is missing; {self.source}"
            )
        return path

    def named(self, path: Path, names: Sequence[str]) -> Sequence[str]:
        """The names of images that a list holds.

        Raises:
            InputError: if there are none, or one leads elsewhere.
        """
        if not names:
            raise InputError(f"{path} names no image; {ANEW}")
        for name in names:
            if not stays_below(name) or not is_plain(name):
                raise InputError(
                    f"{path} names the image {brief(name)}, which is no file name; {ANEW}"
                )
        return names

    @property
    def otherwise(self) -> str:
        """What is wrong with a value that no index map of this data set should hold."""
        return f"which {self.title} does not have; {ANEW}"
