"""Questions to a model whose answers are tensors, distributions or tables; figures draw them."""

from pyro_disent.queries.draws import arviz_groups, inference_data, write_groups
from pyro_disent.queries.encoding import Encoded, encode
from pyro_disent.queries.interpolation import interpolate
from pyro_disent.queries.intervention import Counterfactual, descendants, do

__all__ = [
    "Counterfactual",
    "Encoded",
    "arviz_groups",
    "descendants",
    "do",
    "encode",
    "inference_data",
    "interpolate",
    "write_groups",
]
