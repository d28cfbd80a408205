"""The table of methods: what each adds to the ELBO, what it needs, and where it stands in the paper."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from torch import Tensor

from pyro_disent import plugins, signatures
from pyro_disent.errors import InputError
from pyro_disent.models.latents import Latent
from pyro_disent.models.opponents import FactorPredictor, PermutationDiscriminator
from pyro_disent.objectives import terms
from pyro_disent.objectives.elbo import DisentanglingELBO
from pyro_disent.objectives.step import Term
from pyro_disent.objectives.weights import WarmUp, Weight


class Setting(NamedTuple):
    """What a method can build its term from."""

    latents: tuple[Latent, ...]
    edges: Mapping[str, Tensor]
    """factor's name -> inner edges of its bins, for factors that have labels."""
    always: tuple[str, ...] = ()
    """Factors that every pair has in common, which a common latent stands for."""


@dataclass(frozen=True)
class Method:
    """One row of the table."""

    name: str
    summary: str
    source: str
    """An equation of the paper, or where the term comes from."""
    equation: str
    """What is minimized: minus the ELBO, or what is added to it."""
    pair: bool = False
    """Needs pairs that share something."""
    factors: bool = False
    """Needs labels of factors."""
    exchange: bool = False
    """Decodes under the exchange of what the pair shares."""
    beta: float = 1.0
    term: type[Term] | None = None
    """The term it adds."""
    make: Callable[..., Term] | None = None
    """Makes its term from a `Setting`, where the term needs one; the other parameters are the term's options."""

    @property
    def term_name(self) -> str | None:
        """The name of its term, if it adds one."""
        if self.term is not None:
            return self.term.name
        return None if self.make is None else self.name

    @property
    def options(self) -> dict[str, signatures.Option] | None:
        """The options of its term by name, from the signature of what makes it; None where it takes any."""
        if self.make is not None:
            first = next(iter(inspect.signature(self.make).parameters))
            return signatures.options(self.make, without=(first,))
        return {} if self.term is None else signatures.options(self.term)

    def added(self, setting: Setting, options: Mapping[str, Any] | None = None) -> list[Term]:
        """Its term, made for a setting with these options, if it adds one."""
        arguments = signatures.checked(self.options, options or {}, f"the term {self.term_name}")
        if self.make is not None:
            return [self.make(setting, **arguments)]
        return [] if self.term is None else [self.term(**arguments)]


def _predictor(
    setting: Setting,
    side: Literal["entropy", "cross-entropy"] = "entropy",
    on: Literal["sample", "mean"] = "sample",
    guard: Sequence[str] | None = None,
    hide: Sequence[str] | None = None,
) -> Term:
    """Hides from the guarded latents every factor that they do not stand for.

    Args:
        side: the encoder's, against the predictor; see `terms.Prediction`.
        on: what the predictor sees of the posterior.
        guard: latents that factors are hidden from; None: those that stand for what pairs have in common.
        hide: factors that are hidden from them; None: those that they do not stand for.
    """
    guarded = _guarded(setting, guard)
    explained = {factor for latent in guarded for factor in _stands_for(latent, setting)}
    if unknown := [factor for factor in hide or () if factor not in setting.edges]:
        raise InputError(
            f"there is no factor {', '.join(unknown)} with labels to hide; there are {', '.join(setting.edges)}"
        )
    hidden = {
        factor: edges
        for factor, edges in setting.edges.items()
        if (factor not in explained if hide is None else factor in hide)
    }
    if not hidden:
        raise InputError(
            f"the method predictor has nothing to hide from {', '.join(latent.name for latent in guarded)}: the "
            f"factors with labels ({', '.join(setting.edges)}) are what it stands for; name other latents to guard"
        )
    bins = {factor: len(edges) + 1 for factor, edges in hidden.items()}
    predictor = FactorPredictor(sum(latent.width for latent in guarded), bins)
    names = tuple(latent.name for latent in guarded)
    return terms.Prediction(predictor, hidden, names, side=side, on=on)


def _stands_for(latent: Latent, setting: Setting) -> set[str]:
    """The factors that a latent explains, by name, as common ones or as the rest."""
    if latent.explains == "common":
        return set(setting.always)
    if latent.explains == "rest":
        return setting.edges.keys() - {factor for each in setting.latents for factor in each.factors}
    return set(latent.factors)


def _guarded(setting: Setting, guard: Sequence[str] | None) -> list[Latent]:
    """The latents that factors are hidden from.

    Those of ``guard``; else the common ones; else those that name only factors without labels, such as the identity;
    else all that lack some factor.
    """
    by_name = {latent.name: latent for latent in setting.latents}
    if guard is not None:
        if unknown := [name for name in guard if name not in by_name]:
            raise InputError(
                f"there is no latent {', '.join(unknown)} to hide factors from; the latents are {', '.join(by_name)}"
            )
        return [by_name[name] for name in dict.fromkeys(guard)]
    labelled = setting.edges.keys()
    common = [latent for latent in setting.latents if latent.explains == "common"]
    named = [latent for latent in setting.latents if latent.factors and not labelled & set(latent.factors)]
    lacking = [latent for latent in setting.latents if labelled - _stands_for(latent, setting)]
    return common or named or lacking


def _total_correlation(setting: Setting) -> Term:
    width = sum(latent.width for latent in setting.latents)
    return terms.TotalCorrelation(PermutationDiscriminator(width), setting.latents)


def _dip(setting: Setting) -> Term:
    if not any(latent.family.euclidean for latent in setting.latents):
        raise InputError("the method dip is about the covariance of codes, and no latent is of a family that has one")
    return terms.DIP()


_TOTAL_CORRELATION = "KL(q(z, y) || product of its units' marginals)"

GROUP = "pyro_disent.methods"
METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("vae", "the ELBO alone", "section 3.1", "-E log p(x | z, y) + KL(q || p)"),
        Method(
            "beta-vae",
            "a weight of 2 on every KL",
            "Higgins et al. 2017; section 5",
            "-E log p(x | z, y) + 2 KL(q || p)",
            beta=2.0,
        ),
        Method(
            "factor-vae",
            "total correlation, weight gamma",
            "Kim & Mnih 2018",
            _TOTAL_CORRELATION,
            term=terms.TotalCorrelation,
            make=_total_correlation,
        ),
        Method(
            "similarity",
            "posteriors of what the pair shares agree",
            "Eq. 1",
            "KL(q(z | x) || q(z | x'))",
            pair=True,
            term=terms.Similarity,
        ),
        Method(
            "cycle",
            "each view decoded from what it shares with the other",
            "Eq. 2",
            "-E log p(x | z', y) + KL(q || p)",
            pair=True,
            exchange=True,
        ),
        Method(
            "predictor",
            "an opponent g cannot guess the factors from z",
            "Eq. 3",
            "-H(g(z)), or E log g(factor | z) by `predictor_side=cross-entropy`",
            factors=True,
            term=terms.Prediction,
            make=_predictor,
        ),
        Method(
            "reverse-cycle",
            "z survives decoding with another y",
            "Jha et al. 2018",
            "KL(q(z | decoded from z and y' ~ p(y)) || q(z | x))",
            pair=True,
            term=terms.ReverseCycle,
        ),
        Method(
            "total-correlation",
            "the code's units are independent",
            "Kim & Mnih 2018",
            _TOTAL_CORRELATION,
            term=terms.TotalCorrelation,
            make=_total_correlation,
        ),
        Method(
            "dip",
            "the code's covariance is the identity",
            "Kumar et al. 2018",
            "|Cov[mean] + E[variance] - I|^2",
            term=terms.DIP,
            make=_dip,
        ),
        Method(
            "info-nce",
            "each view finds its other view among the batch",
            "van den Oord et al. 2018",
            "-log softmax(cos(mean z, mean z') / 0.1)",
            pair=True,
            term=terms.InfoNCE,
        ),
    )
}


def methods() -> dict[str, Method]:
    """Ours and those of the entry-point group ``pyro_disent.methods``, by name."""
    return {name: each for name, each in plugins.by_name(GROUP, METHODS).items() if isinstance(each, Method)}


def parse(expression: str) -> list[Method]:
    """The methods of an expression: one name, or several joined by ``+``.

    Raises:
        InputError: for a name that does not exist, listing those that do, and for a name given twice.
    """
    names = [name.strip() for name in expression.split("+")]
    chosen = [plugins.find(GROUP, METHODS, name, "method") for name in names]
    if others := [name for name, method in zip(names, chosen, strict=True) if not isinstance(method, Method)]:
        raise InputError(f"{others[0]} of another package is no Method: see pyro_disent.objectives.methods")
    if len(set(names)) < len(names):
        raise InputError(f"the method {expression!r} names one thing twice")
    return chosen


def build_objective(
    expression: str,
    setting: Setting,
    *,
    weights: Mapping[str, Weight] | None = None,
    beta: Weight | Mapping[str, Weight] | None = None,
    warmup_steps: int = 0,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    known: Mapping[str, Sequence[float]] | None = None,
) -> DisentanglingELBO:
    """One ELBO, decoded under the exchange if ``cycle`` is named, plus the weighted terms of the others.

    Args:
        weights: term's name -> weight, where it differs from the term's default.
        beta: weight on every KL, or latent's name -> weight; None: the method's.
        warmup_steps: steps over which the terms' weights rise from 0, except those that are a `WarmUp` already.
        options: term's name -> its options, see `Method.options`.
        known: for observed latents, see `DisentanglingELBO`; ``weights`` may then name ``alpha``.

    Raises:
        InputError: for methods that do not exist, weights of terms that do not exist, and factors without labels.
    """
    chosen = parse(expression)
    if any(method.factors for method in chosen) and not setting.edges:
        raise InputError(f"the method {expression!r} needs labels of factors, and this data set has none")
    latents = {latent.name for latent in setting.latents}
    if isinstance(beta, Mapping) and (unknown := beta.keys() - latents):
        raise InputError(f"`beta` names {', '.join(sorted(unknown))}; the latents are {', '.join(sorted(latents))}")
    arguments = check_options(expression, options or {})
    added = [term for method in chosen for term in method.added(setting, arguments.get(method.term_name or ""))]
    names = {term.name for term in added}
    if len(names) < len(added):
        raise InputError(f"the method {expression!r} adds one term twice")
    overrides = dict(weights or {})
    alpha = overrides.pop("alpha", 1.0) if known and "alpha" not in names else 1.0
    if unknown := overrides.keys() - names:
        accepted = f"its terms are {', '.join(sorted(names))}" if names else "it has no terms"
        raise InputError(
            f"`weights` names {', '.join(sorted(unknown))}, but {expression!r} has no such term: {accepted}"
        )
    final: dict[str, Weight] = {term.name: overrides.get(term.name, term.default_weight) for term in added}
    if warmup_steps:
        final = {n: w if isinstance(w, WarmUp) else WarmUp(w, warmup_steps) for n, w in final.items()}
    default_beta = max(method.beta for method in chosen)
    if isinstance(beta, Mapping):
        beta = {name: beta.get(name, default_beta) for name in latents}
    return DisentanglingELBO(
        added,
        weights=final,
        beta=default_beta if beta is None else beta,
        exchange=any(method.exchange for method in chosen),
        alpha=alpha,
        known=known,
    )


def check_options(expression: str, options: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The options of an expression's terms, converted to the types that their constructors take.

    Args:
        options: term's name -> option's name -> value; text is converted to the option's type.

    Raises:
        InputError: for terms and options that do not exist, listing those that do, and for invalid values.
    """
    by_term = {method.term_name: method for method in parse(expression) if method.term_name is not None}
    if unknown := options.keys() - by_term.keys():
        accepted = f"its terms are {', '.join(sorted(by_term))}" if by_term else "it has no terms"
        raise InputError(f"`terms` names {', '.join(sorted(unknown))}, but {expression!r} has no such term: {accepted}")
    check_tables(options)
    return {
        name: signatures.checked(by_term[name].options, values, f"the term {name}") for name, values in options.items()
    }


def check_tables(options: Mapping[str, Any]) -> None:
    """Raises InputError for a term whose entry is not a table of options."""
    if wrong := [name for name, table in options.items() if not isinstance(table, Mapping)]:
        raise InputError(f"`terms` says of {wrong[0]} {options[wrong[0]]!r}: a table of its options is needed")


def needs_pairs(expression: str) -> bool:
    """Whether any method of the expression needs two views."""
    return any(method.pair for method in parse(expression))


def needs_factors(expression: str) -> bool:
    """Whether any method of the expression predicts factors."""
    return any(method.factors for method in parse(expression))
