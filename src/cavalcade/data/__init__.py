"""Images with labels or without: samples, data sets, and batches as one network sees them."""

from cavalcade.data.batches import ConceptBatch, ConceptDataModule, Targets
from cavalcade.data.faces import Faces
from cavalcade.data.folder import Folder
from cavalcade.data.images import Images
from cavalcade.data.sample import ConceptData, ConceptDataset, ConceptSample

__all__ = [
    "ConceptBatch",
    "ConceptData",
    "ConceptDataModule",
    "ConceptDataset",
    "ConceptSample",
    "Faces",
    "Folder",
    "Images",
    "Targets",
]
