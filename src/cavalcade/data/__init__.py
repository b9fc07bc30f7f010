"""Images with labels or without: samples, data sets, and batches as one network sees them."""

from cavalcade.data.ade20k import Ade20k
from cavalcade.data.batches import ConceptBatch, ConceptDataModule, Targets
from cavalcade.data.broden import Broden
from cavalcade.data.celeba_mask import CelebAMaskHQ
from cavalcade.data.cityscapes import Cityscapes
from cavalcade.data.coco import Coco
from cavalcade.data.faces import Faces
from cavalcade.data.folder import Folder
from cavalcade.data.images import Images
from cavalcade.data.oxford_pets import OxfordPets
from cavalcade.data.sample import ConceptData, ConceptDataset, ConceptSample, Labels
from cavalcade.data.voc import PascalVoc

__all__ = [
    "Ade20k",
    "Broden",
    "CelebAMaskHQ",
    "Cityscapes",
    "Coco",
    "ConceptBatch",
    "ConceptData",
    "ConceptDataModule",
    "ConceptDataset",
    "ConceptSample",
    "Faces",
    "Folder",
    "Images",
    "Labels",
    "OxfordPets",
    "PascalVoc",
    "Targets",
]
