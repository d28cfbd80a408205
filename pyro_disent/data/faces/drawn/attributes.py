"""CelebA's 40 attributes: their names, how often each is seen, and what a generated face draws its own from.

Sex and age come first, as the parents of all others. A share that depends on them is the published one, spread over
the four groups; so the shares of the generated faces are the published ones by construction.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

ATTRIBUTES: tuple[str, ...] = (
    *("5_o_Clock_Shadow", "Arched_Eyebrows", "Attractive", "Bags_Under_Eyes", "Bald", "Bangs", "Big_Lips", "Big_Nose"),
    *("Black_Hair", "Blond_Hair", "Blurry", "Brown_Hair", "Bushy_Eyebrows", "Chubby", "Double_Chin", "Eyeglasses"),
    *("Goatee", "Gray_Hair", "Heavy_Makeup", "High_Cheekbones", "Male", "Mouth_Slightly_Open", "Mustache"),
    *("Narrow_Eyes", "No_Beard", "Oval_Face", "Pale_Skin", "Pointy_Nose", "Receding_Hairline", "Rosy_Cheeks"),
    *("Sideburns", "Smiling", "Straight_Hair", "Wavy_Hair", "Wearing_Earrings", "Wearing_Hat", "Wearing_Lipstick"),
    *("Wearing_Necklace", "Wearing_Necktie", "Young"),
)
"""In CelebA's order, that of the columns of every array of attributes."""

MALE, YOUNG = 0.417, 0.774
YOUNG_OF_MALE = 0.64
GROUPS = ("young woman", "older woman", "young man", "older man")


class Rule(NamedTuple):
    """How often an attribute is seen, and where."""

    share: float
    """Among CelebA's 202,599 images."""
    weights: tuple[float, float, float, float]
    """How often it is seen in each of `GROUPS`, relative to the other groups."""
    parent: str | None = None
    """An attribute it comes with, or, where ``ratio`` is below 1, without."""
    ratio: float = 1.0
    """How much more often it is seen with its parent than without."""


RULES: dict[str, Rule] = {
    "No_Beard": Rule(0.835, (1, 1, 0.59, 0.63)),
    "5_o_Clock_Shadow": Rule(0.111, (0, 0, 1.1, 1), "No_Beard", 0.25),
    "Goatee": Rule(0.063, (0, 0, 1, 1.2), "No_Beard", 0),
    "Sideburns": Rule(0.057, (0, 0, 1, 1), "No_Beard", 0.05),
    "Mustache": Rule(0.042, (0, 0, 1, 1.8), "No_Beard", 0.15),
    "Bald": Rule(0.022, (0, 0, 1, 3)),
    "Black_Hair": Rule(0.239, (1, 0.4, 1.5, 0.6)),
    "Blond_Hair": Rule(0.148, (1, 1, 0.12, 0.1)),
    "Brown_Hair": Rule(0.205, (1.2, 1, 0.8, 0.6)),
    "Gray_Hair": Rule(0.042, (0, 1.5, 0.1, 4)),
    "Bangs": Rule(0.152, (1.2, 1, 0.45, 0.2)),
    "Receding_Hairline": Rule(0.080, (0.3, 0.8, 0.8, 3)),
    "Straight_Hair": Rule(0.208, (1, 0.7, 1.2, 1)),
    "Wavy_Hair": Rule(0.320, (1, 0.8, 0.3, 0.3)),
    "Wearing_Hat": Rule(0.048, (0.6, 0.3, 1.6, 1)),
    "Wearing_Lipstick": Rule(0.472, (1, 0.85, 0.01, 0.01)),
    "Heavy_Makeup": Rule(0.387, (1, 0.5, 0.005, 0.005), "Wearing_Lipstick", 20),
    "Rosy_Cheeks": Rule(0.066, (1, 0.8, 0, 0), "Heavy_Makeup", 15),
    "Wearing_Earrings": Rule(0.189, (1, 1.1, 0.06, 0.05), "Heavy_Makeup", 1.4),
    "Wearing_Necklace": Rule(0.123, (1, 1.1, 0.08, 0.05), "Wearing_Earrings", 2),
    "Wearing_Necktie": Rule(0.073, (0, 0, 1, 2.4)),
    "Chubby": Rule(0.058, (0.3, 1.2, 1, 3)),
    "Double_Chin": Rule(0.047, (0.3, 1.4, 0.8, 4), "Chubby", 20),
    "Attractive": Rule(0.513, (1, 0.35, 0.5, 0.2), "Chubby", 0.3),
    "Bags_Under_Eyes": Rule(0.205, (0.5, 1.2, 1.3, 2.2)),
    "Narrow_Eyes": Rule(0.115, (0.9, 1.1, 1, 1.2)),
    "Eyeglasses": Rule(0.065, (0.4, 1, 1, 3)),
    "Arched_Eyebrows": Rule(0.267, (1, 0.9, 0.1, 0.1)),
    "Bushy_Eyebrows": Rule(0.142, (0.5, 0.3, 2, 1.8)),
    "Big_Nose": Rule(0.235, (0.4, 0.8, 1.5, 2.2)),
    "Pointy_Nose": Rule(0.277, (1.2, 1, 0.7, 0.8)),
    "Big_Lips": Rule(0.241, (1.2, 0.6, 0.9, 0.6)),
    "Smiling": Rule(0.482, (1.1, 1.2, 0.75, 0.95)),
    "High_Cheekbones": Rule(0.455, (1.2, 1.2, 0.6, 0.8), "Smiling", 2.6),
    "Mouth_Slightly_Open": Rule(0.483, (1.1, 1.1, 0.85, 0.9), "Smiling", 3.2),
    "Oval_Face": Rule(0.284, (1.15, 0.9, 0.8, 0.7)),
    "Pale_Skin": Rule(0.043, (1.3, 0.8, 0.6, 0.4)),
    "Blurry": Rule(0.051, (1, 1, 1, 1)),
}
"""All attributes but sex and age, in drawing order: parents before children. Shares are the published
ones; weights and ratios are rough, after the correlations in CelebA."""

EXCLUSIVE: tuple[tuple[str, ...], ...] = (
    ("Bald", "Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair"),
    ("Bald", "Straight_Hair", "Wavy_Hair"),
    ("Bald", "Bangs", "Receding_Hairline"),
    ("Bald", "Receding_Hairline", "Wearing_Hat"),
    ("Wearing_Necktie", "Wearing_Necklace"),
)
"""Sets of which a sampled face has at most one: they contradict, or one hides the other."""

SHARES: dict[str, float] = {name: {"Male": MALE, "Young": YOUNG}.get(name) or RULES[name].share for name in ATTRIBUTES}
"""CelebA's share of images with each attribute."""


class Chance(NamedTuple):
    """What `sample_attributes` needs to draw one attribute after those before it."""

    attribute: int
    parent: int
    """Any attribute where there is none: then both chances are the same."""
    excluded_by: tuple[int, ...]
    chances: NDArray[np.float64]
    """``(groups, 2)``: without and with the parent, given that nothing excludes it."""


def group_shares() -> NDArray[np.float64]:
    """The share of each of `GROUPS` among all faces, ``(4,)``."""
    young = YOUNG_OF_MALE * MALE
    return np.array([YOUNG - young, 1 - MALE - YOUNG + young, young, MALE - young])


@functools.cache
def chances() -> tuple[Chance, ...]:
    """The rules as conditional probabilities, in drawing order."""
    groups = group_shares()
    marginal = {}
    drawn = []
    for name, rule in RULES.items():
        weights = np.array(rule.weights, float)
        marginal[name] = rule.share * weights / (groups @ weights)
        rivals = {rival for rivals in EXCLUSIVE if name in rivals for rival in rivals if rival in marginal} - {name}
        # Those drawn before are exclusive among themselves, so that their chances add up.
        free = 1 - sum((marginal[rival] for rival in rivals), np.zeros(len(groups)))
        parent = rule.parent or "Male"
        with_parent = np.zeros(len(groups)) if rule.parent is None else marginal[rule.parent]
        without = marginal[name] / free / (1 + with_parent * (rule.ratio - 1))
        drawn.append(
            Chance(
                ATTRIBUTES.index(name),
                ATTRIBUTES.index(parent),
                tuple(sorted(ATTRIBUTES.index(rival) for rival in rivals)),
                np.stack([without, without * rule.ratio], 1),
            )
        )
    return tuple(drawn)


def sample_attributes(generator: np.random.Generator) -> NDArray[np.bool_]:
    """The attributes of one face, ``(40,)``, in the order of `ATTRIBUTES`."""
    uniform = generator.random(len(ATTRIBUTES))
    male, young = ATTRIBUTES.index("Male"), ATTRIBUTES.index("Young")
    attributes = np.zeros(len(ATTRIBUTES), bool)
    attributes[male] = uniform[male] < MALE
    young_share = YOUNG_OF_MALE if attributes[male] else (YOUNG - YOUNG_OF_MALE * MALE) / (1 - MALE)
    attributes[young] = uniform[young] < young_share
    group = 2 * int(attributes[male]) + int(not attributes[young])
    for name, parent, excluded_by, chance in chances():
        free = not any(attributes[rival] for rival in excluded_by)
        attributes[name] = free and uniform[name] < chance[group, int(attributes[parent])]
    return attributes
