"""What is asked of a model, with a tensor, a distribution or a table as the answer; figures draw them."""

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
