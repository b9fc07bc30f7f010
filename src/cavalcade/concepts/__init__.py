"""Concept activation vectors: how they are found, and where they fire."""

from cavalcade.concepts.activation_cache import ActivationCache
from cavalcade.concepts.concept_set import ConceptSet, LayerConcepts
from cavalcade.concepts.factorisation import Factorisation, Mined
from cavalcade.concepts.probing import Probes
from cavalcade.concepts.replicates import Found

__all__ = [
    "ActivationCache",
    "ConceptSet",
    "Factorisation",
    "Found",
    "LayerConcepts",
    "Mined",
    "Probes",
]
