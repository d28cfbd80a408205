"""How programs use Pyro's parameter store: the names of their parameters, and the owner of a stored value.

Pyro's store is one table of tensors for the whole process. Loading it (``load``, ``set_state``) adds tensors that are
not parameters of any model: Pyro would train those instead of the model, or keep them without effect.
"""

from __future__ import annotations

import itertools
import re
import weakref
from collections.abc import Iterable, Mapping

import pyro
import torch
from torch import Tensor, nn
from torch.distributions import constraints

from pyro_disent.errors import InputError

living: weakref.WeakValueDictionary[str, Named] = weakref.WeakValueDictionary()
"""store name -> the program that has it."""
_put: weakref.WeakValueDictionary[str, Tensor] = weakref.WeakValueDictionary()
"""Name in Pyro's store -> the parameter that a program of this process put there."""
_serial = itertools.count()
_SERIAL = re.compile(r"\w+#\d+")


def serial_name(kind: str) -> str:
    """A store name that no other program of this process has."""
    return f"{kind}#{next(_serial)}"


def is_given(name: str) -> bool:
    """Whether a store name was chosen by the user, and not made by `serial_name`."""
    return "#" not in name


class Named(nn.Module):
    """A module whose parameters have a name in Pyro's store: the part of a `program.Program` needed here."""

    def __init__(self) -> None:
        super().__init__()
        self._weights_loaded = False
        self.store_name = serial_name(type(self).__name__)

    @property
    def store_name(self) -> str:
        """The prefix of its parameters' names in Pyro's store."""
        return self._store_name

    @store_name.setter
    def store_name(self, name: str) -> None:
        self._store_name = name
        living[name] = self


class _Itself(weakref.ref):
    """Pyro's weak reference from a parameter to itself. Pickling drops it; a plain one cannot be pickled."""

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return type(None), ()


def share(program: Named) -> None:
    """Make a param site of each parameter that is not frozen, after `take_up`.

    Raises:
        RuntimeError: where the store holds another tensor, which would be trained instead of the parameter.
    """
    take_up(program)
    store = pyro.get_param_store()
    for name, parameter in program.named_parameters():
        if not parameter.requires_grad:
            continue
        site = f"{program.store_name}.{name}"
        is_put = _put.get(site) is parameter
        if not is_put and site not in store and not parameter.is_contiguous():
            raise RuntimeError(
                f"the memory of {name} of this {type(program).__name__} is not contiguous, and Pyro's store would "
                "train a copy of it: call vae.to(memory_format=torch.contiguous_format) before SVI"
            )
        stored = pyro.param(site, parameter)
        if stored._cdata != parameter._cdata:
            raise RuntimeError(
                f"Pyro's parameter store holds another tensor for {name} of this {type(program).__name__} (it was "
                f"replaced, or another model has its name {program.store_name}): call pyro.clear_param_store() first, "
                "or give the model another name"
            )
        parameter.unconstrained = _Itself(parameter)  # type: ignore[attr-defined]
        if not is_put:
            _put[site] = parameter


def take_up(program: Named) -> None:
    """Copy values loaded into Pyro's store for this program into its parameters, including frozen ones.

    Raises:
        InputError: where a loaded value fits no parameter or some are missing, and where a program without a name meets
            a store from elsewhere, whose names cannot refer to it: its weights would stay random.
    """
    if pyro.settings.get("module_local_params"):
        return
    stored = pyro.get_param_store().named_parameters()
    loaded = {name: value for name, value in stored if _put.get(name) is not value}
    if not loaded:
        return
    prefix = f"{program.store_name}."
    values = {name: value for name, value in loaded.items() if name.startswith(prefix)}
    if values and is_given(program.store_name):
        _restore(program, values)
    elif not program._weights_loaded and (stray := _unclaimed(program, loaded)):
        raise InputError(
            f"Pyro's parameter store holds {stray}, loaded from elsewhere, which belongs to no model here, and this "
            f"{type(program).__name__} would keep the weights that it was built with. Give models a name before they "
            'are trained, FactoredVAE(..., name="mine"), and the store finds them again; or keep weights by '
            "vae.state_dict(); or call pyro.clear_param_store() where the store is not needed"
        )


def _restore(program: Named, loaded: Mapping[str, Tensor]) -> None:
    store, name = pyro.get_param_store(), program.store_name
    parameters = {f"{name}.{part}": parameter for part, parameter in program.named_parameters()}
    another = f"Pyro's parameter store was loaded with another model's parameters under the name {name}:"
    if unknown := sorted(loaded.keys() - parameters.keys()):
        raise InputError(f"{another} it holds {unknown[0]}, which this {type(program).__name__} has not")
    if missing := [site for site, parameter in parameters.items() if parameter.requires_grad and site not in store]:
        raise InputError(
            f"{another} it lacks {missing[0]} (what was frozen in training is in no store: freeze it here)"
        )
    for site, value in loaded.items():
        if value.shape != parameters[site].shape:
            raise InputError(
                f"{another} {site} is {tuple(value.shape)} in the store and {tuple(parameters[site].shape)} in this "
                "model"
            )
    with torch.no_grad():
        for site, value in loaded.items():
            parameters[site].copy_(value)
            del store[site]
            store.set_state({"params": {site: parameters[site]}, "constraints": {site: constraints.real}})
            _put[site] = parameters[site]
    program._weights_loaded = True


def _unclaimed(program: Named, loaded: Iterable[str]) -> str | None:
    """A store name among the loaded ones that no program has: a serial one, or one that fits this program."""
    names = list(loaded)
    for name in names:
        owner = name.partition(".")[0]
        if _SERIAL.fullmatch(owner):  # a serial number of another process names no program here
            return owner
    # A store of named models: does a name fit this program, had it been named so?
    parameters = [name for name, _ in program.named_parameters()]
    for name in names if parameters else ():
        owner = name.removesuffix(f".{parameters[0]}")
        if (
            owner.endswith((".model", ".guide"))
            and owner not in living
            and {f"{owner}.{part}" for part in parameters} <= {*names}
        ):
            return owner
    return None
