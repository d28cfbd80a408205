"""Families of latents: each class has a prior, the form of the posterior, and everything computed from the two."""

from __future__ import annotations

from pyro_disent.models.families.base import Family
from pyro_disent.models.families.circle import Circle, ProjectedNormal
from pyro_disent.models.families.discrete import Binary, Categorical
from pyro_disent.models.families.mixture import Mixture
from pyro_disent.models.families.normal import ConditionalNormal, LabelledNormal, Normal
from pyro_disent.models.families.table import FAMILIES, make, name_of, settings_of

__all__ = [
    "FAMILIES",
    "Binary",
    "Categorical",
    "Circle",
    "ConditionalNormal",
    "Family",
    "LabelledNormal",
    "Mixture",
    "Normal",
    "ProjectedNormal",
    "make",
    "name_of",
    "settings_of",
]
