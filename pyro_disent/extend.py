"""Everything that a package of your own needs, in one import: ``from pyro_disent.extend import Method, Term``.

Each name is imported from its module on first use.
"""

from __future__ import annotations

import importlib
from typing import Any

_WHERE = {
    "AdversarialTerm": "objectives.step",
    "Codes": "evaluation.codes",
    "DataSet": "data.dataset",
    "Factor": "data.dataset",
    "FactoredVAE": "models.factored_vae",
    "Family": "models.families",
    "GenerativeModel": "models.graphical_model",
    "Guide": "models.graphical_model",
    "Likelihood": "models.likelihoods",
    "Measurement": "evaluation.evaluate",
    "Method": "objectives.methods",
    "Number": "evaluation.evaluate",
    "Request": "data.sources",
    "Setting": "objectives.methods",
    "Split": "data.dataset",
    "Step": "objectives.step",
    "Subject": "figures.of_run",
    "Term": "objectives.step",
}

__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"pyro_disent.{_WHERE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *_WHERE]
