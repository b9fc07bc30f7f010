"""Concept activation vectors: how they are found, and where they fire."""

from cavalcade.concepts.concept_set import ConceptSet, LayerConcepts
from cavalcade.concepts.method import Probes
from cavalcade.concepts.replicates import Found

__all__ = ["ConceptSet", "Found", "LayerConcepts", "Probes"]
