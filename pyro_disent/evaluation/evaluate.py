"""Everything that can be measured of a trained model on a data set: numbers with names and units."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Container, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pyro_disent import plugins
from pyro_disent.data.dataset import TEST_MORE, DataSet, Factor
from pyro_disent.errors import InputError
from pyro_disent.evaluation.aggregate import aggregate_kl
from pyro_disent.evaluation.bounds import elbo
from pyro_disent.evaluation.codes import SOME, Codes
from pyro_disent.evaluation.counterfactuals import swap_error
from pyro_disent.evaluation.leakage import fit_regressors, leak, pair_leak, r2
from pyro_disent.evaluation.opponents import classifier_accuracy, prediction, skill
from pyro_disent.evaluation.probes import linear_probe
from pyro_disent.evaluation.result import Evaluation, Number
from pyro_disent.evaluation.two_sample import told_apart
from pyro_disent.evaluation.viewpoints import angle_error, near_symmetric, recall_at_1, recall_by_chance
from pyro_disent.models.factored_vae import FactoredVAE
from pyro_disent.models.latents import swapped
from pyro_disent.models.program import usual_defaults
from pyro_disent.models.use import Usage, use
from pyro_disent.objectives.elbo import Objective
from pyro_disent.process import left_as_found
from pyro_disent.threads import Threads, choose, using

PROTOCOL = 1
"""Version of what the numbers mean; numbers of different versions do not compare."""

PIXELS = "raw pixels"
"""Block of the numbers computed from the images themselves, for comparison."""

BY_DRAWS = " by draws"
READINGS = (("", ""), ("_drawn", BY_DRAWS))
"""A block is read from posterior means and from draws: the suffix of the key and of the measure for each reading."""

AGGREGATE = "KL of the aggregated posterior to the prior"
USE = "use by the decoder"
TOLD = "samples told apart by a classifier"
TOLD_IMAGES = 100
"""With fewer test images a classifier of samples learns nothing meaningful."""
RECALL = "recall@1{by} of identity in another view"

Progress = Callable[[int, int, str], None]
"""Called with steps done, steps in all, and what is computed next."""


class Measurement(NamedTuple):
    """Something to compute: a title for the progress display, and a function that returns numbers by their keys."""

    title: str
    compute: Callable[[], dict[str, Number]]


@left_as_found()
@usual_defaults()
def evaluate(
    vae: FactoredVAE,
    data: DataSet,
    *,
    name: str = "",
    method: str = "",
    objective: Objective | None = None,
    checkpoint: str = "",
    steps: int | None = None,
    handed_over: Container[str] = ("vae", "elbo"),
    seed: int = 0,
    progress: Progress | None = None,
    threads: int | None = None,
) -> Evaluation:
    """Measure what fits the data: bounds and uses always; where possible swap errors, probes, leaks and recall@1.

    Args:
        vae: the model.
        data: images of the model's shape; factors in the units of the opponent's bins, see `in_units`.
        name: the model's name in tables.
        method: the recorded name of the method that trained it.
        objective: the one it was trained with, if any: its opponents are measured too, and advice uses its weights.
        checkpoint: which weights these are, as it is recorded.
        steps: how many steps it was trained for, if known: advice depends on it.
        handed_over: which of ``vae`` and ``elbo`` the user made without settings: advice is worded for that.
        seed: for how images are seen, for pairs, and for every probe.
        progress: called before each measurement.
        threads: CPU threads; None takes the number that is fastest now, see `pyro_disent.threads.choose`.

    Raises:
        InputError: for data whose images are not of the model's shape.
    """
    check_fits(vae, data, name or "this model")
    codes = Codes(vae, data, seed, objective)
    chosen = choose(SOME) if threads is None else Threads(threads, "as set")
    if progress:
        progress(0, 1, f"encoding images, threads: {chosen}")
    with using(chosen.number):
        numbers = _measured(codes, progress)
    usage = Usage.read({key: number.value for key, number in numbers.items()}, "/")
    units = {latent.name: latent.units for latent in vae.latents}
    return Evaluation(
        protocol=PROTOCOL,
        run=name,
        method=method,
        data=data.name,
        source=data.source,
        images={"train": len(data.train), "validation": len(data.validation), "test": len(data.test)},
        seed=seed,
        blocks=codes.blocks,
        numbers=numbers,
        advice=tuple(usage.advice(units, {} if objective is None else objective.betas(units), steps, handed_over)),
        checkpoint=checkpoint,
    )


def _measured(codes: Codes, progress: Progress | None) -> dict[str, Number]:
    metrics = plugins.by_name(GROUP, {metric.__name__: metric for metric in METRICS})
    measurements = [(name, measurement) for name, metric in metrics.items() for measurement in metric(codes)]
    numbers: dict[str, Number] = {}
    owner: dict[str, str] = {}
    for done, (name, measurement) in enumerate(measurements):
        if progress:
            progress(done, len(measurements), measurement.title)
        results = measurement.compute()
        if taken := [key for key in results if key in numbers]:
            warnings.warn(
                f"the metric {name} of another package measures {', '.join(taken)}, as {owner[taken[0]]} does, whose "
                "numbers stay: it needs keys of its own",
                plugins.BrokenPackage,
                stacklevel=2,
            )
        new = {key: number for key, number in results.items() if key not in numbers}
        numbers |= new
        owner |= dict.fromkeys(new, name)
    if progress:
        progress(len(measurements), len(measurements), "evaluated")
    return numbers


def check_fits(vae: FactoredVAE, data: DataSet, name: str) -> None:
    """Raises InputError for data whose images are not of the shape that a model of this name takes."""
    if tuple(data.image_shape) != tuple(vae.image_shape):
        raise InputError(
            f"{name} takes images of {_shape(vae.image_shape)}, but those of {data.name} are {_shape(data.image_shape)}"
        )


def _shape(image_shape: tuple[int, int, int]) -> str:
    channels, height, width = image_shape
    return f"{height}x{width} with {channels} channel{'s' * (channels > 1)}"


def bounds(codes: Codes) -> Iterator[Measurement]:
    """The held-out evidence lower bound and its parts."""

    def compute() -> dict[str, Number]:
        bound = elbo(codes.vae, codes.test.examples.images, seed=codes.seed)
        unit = "nats per image"
        return {
            "elbo": Number("ELBO", "", bound.elbo, unit),
            "log_likelihood": Number("log p(x | code)", "", bound.log_likelihood, unit),
            **{
                f"kl/{name}": Number(
                    "KL to the prior, from draws" if name in bound.sampled else "KL to the prior", name, kl, unit
                )
                for name, kl in bound.kl.items()
            },
        }

    yield Measurement("held-out ELBO", compute)


def uses(codes: Codes) -> Iterator[Measurement]:
    """Each latent's share of the change in decoded images, when it alone changes."""

    def compute() -> dict[str, Number]:
        shares = use(codes.vae, codes.some_test_images, seed=codes.seed)
        return {f"use/{name}": Number(USE, name, share, "share") for name, share in shares.items()}

    yield Measurement(USE, compute)


def aggregates(codes: Codes) -> Iterator[Measurement]:
    """KL of the aggregated posterior to the prior."""

    def compute() -> dict[str, Number]:
        kl = aggregate_kl(codes.vae, codes.some_test_images, seed=codes.seed)
        return {f"aggregate_kl/{name}": Number(AGGREGATE, name, nats, "nats") for name, nats in kl.items()}

    yield Measurement(AGGREGATE, compute)


def samples(codes: Codes) -> Iterator[Measurement]:
    """How well a classifier tells samples from the prior from test images, and from their reconstructions."""

    def compute() -> dict[str, Number]:
        vae, images = codes.vae, codes.some_test_images
        sampled = vae.decode(vae.prior_sample(len(images), torch.Generator().manual_seed(codes.seed)))
        others = {"data": images.to(sampled.device), "reconstructions": vae.decode(vae.codes(images))}
        return {
            f"told_apart/{name}": Number(TOLD, f"from {name}", told_apart(sampled, other, seed=codes.seed), "accuracy")
            for name, other in others.items()
        } | {"told_apart_chance": Number(TOLD, "chance", 0.5, "accuracy")}

    if len(codes.test.examples.images) >= TOLD_IMAGES:
        yield Measurement("samples told apart", compute)


def counterfactuals(codes: Codes) -> Iterator[Measurement]:
    """Errors of swaps against the true images, where the data set can draw these, and of baselines."""
    pair = codes.data.pairs.typical_pair(factor.name for factor in codes.data.factors)
    if not swapped(codes.vae.latents, pair, codes.data.test.drawable).latents:
        return

    def compute() -> dict[str, Number]:
        error = swap_error(codes.vae, codes.data.test, pair, seed=codes.seed)
        return {} if error is None else error.numbers()

    yield Measurement("swap error", compute)


def probes(codes: Codes) -> Iterator[Measurement]:
    """Linear probes of every label whose test values all occur in training (identities do not)."""
    train, test, seed = codes.train, codes.test, codes.seed
    for label, y in train.examples.labels.items():
        y_test = test.examples.labels.get(label)
        if y_test is None or len(y.unique()) < 2 or not torch.isin(y_test, y).all():
            continue
        inputs = {name: (code, test.codes[name]) for name, code in train.codes.items()}
        pixels = train.examples.images[:].flatten(1).to(codes.vae.device)
        inputs[PIXELS] = pixels, test.examples.images[:].flatten(1)
        for block, (x, x_test) in inputs.items():
            held_out = partial(linear_probe, x, y, x_test, y_test, seed=seed)
            yield _measurement(f"linear_probe/{label}/{block}", f"linear probe of {label}", block, "accuracy", held_out)
        x = train.codes[codes.whole]
        published = partial(linear_probe, x, y, x, y, seed=seed, bias=False)
        measure = f"published probe of {label} (training set)"
        yield _measurement(f"linear_probe_published/{label}", measure, codes.whole, "accuracy", published)


def leaks(codes: Codes) -> Iterator[Measurement]:
    """How much of every factor boosted trees can read from every block: from its posterior means, and from draws."""
    for name, circular in _named(codes.factors):
        for key, by in READINGS:
            for block in codes.blocks:
                compute = partial(_leak, codes, name, circular, block, bool(by))
                yield _measurement(f"leak{key}/{name}/{block}", f"leak{by} of {name}", block, "R2", compute)


def _leak(codes: Codes, name: str, circular: bool, block: str, drawn: bool) -> float:
    train, test = codes.read(block, drawn)
    y_train, y_test = codes.train.examples.factors[name], codes.test.examples.factors[name]
    return leak(train, y_train, test, y_test, circular, seed=codes.seed)


def pair_leaks(codes: Codes) -> Iterator[Measurement]:
    """How much of a factor's difference within a pair boosted trees can read from the difference of the codes."""
    if not codes.factors or not codes.has_pairs:
        return
    train, test = codes.train_pairs, codes.test_pairs
    for name, circular in _named(codes.factors):
        if not (train.differs(name) and test.differs(name)):
            continue
        f_train, f_test = train.factors[name], test.factors[name]
        for key, by in READINGS:
            c_train, c_test = (train.draws, test.draws) if by else (train.codes, test.codes)
            for block in codes.blocks:
                compute = partial(pair_leak, c_train[block], f_train, c_test[block], f_test, circular, seed=codes.seed)
                yield _measurement(
                    f"pair{key}/{name}/{block}", f"difference{by} of {name} in pairs", block, "R2", compute
                )


def opponents(codes: Codes) -> Iterator[Measurement]:
    """The accuracy of the opponent of Eq. 3, of a fresh classifier on every block, and of the most frequent bin."""
    term = None if codes.objective is None else prediction(codes.objective)
    if codes.objective is None or term is None:
        return
    train, test = codes.train, codes.test
    if not all(train.varies(name) and test.varies(name) for name in term.factors):
        return  # another data set, with other known factors
    compute_skill = partial(skill, codes.objective, term, test.examples, seed=codes.seed)

    def opponent_numbers() -> dict[str, Number]:
        accuracies = compute_skill()
        return {
            f"{key}/{name}": Number(f"{measure} of {name}", block, accuracies[f"{key}.{name}"], "accuracy")
            for name in term.factors
            for key, measure, block in (
                ("accuracy", "opponent's guess", "+".join(term.latents)),
                ("chance", "most frequent bin", ""),
            )
        }

    yield Measurement("opponent", opponent_numbers)
    all_bins, all_test_bins = (term.labels(split.examples.factors) for split in (train, test))
    for name, bins, test_bins in zip(term.factors, all_bins, all_test_bins, strict=True):
        for key, by in READINGS:
            for block in codes.blocks:
                compute = partial(_guess_accuracy, codes, block, bool(by), bins, test_bins)
                measure = f"fresh classifier{by} of {name}"
                yield _measurement(f"classifier{key}/{name}/{block}", measure, block, "accuracy", compute)


def _guess_accuracy(codes: Codes, block: str, drawn: bool, bins: Tensor, test_bins: Tensor) -> float:
    train, test = codes.read(block, drawn)
    return classifier_accuracy(train, bins, test, test_bins, seed=codes.seed)


def identities(codes: Codes) -> Iterator[Measurement]:
    """Recall@1 of test identities in another view, and how well the view can be read from each block.

    The regressors of the view are fitted on validation identities and scored on test identities. A view is the first
    circular factor of the data set (an azimuth); where there is none, every image is a view by itself.
    """
    examples, seed = codes.test.examples, codes.seed
    identity = examples.labels.get("identity")
    if identity is None:
        return
    azimuth = next((factor.name for factor in codes.factors if factor.circular), None)
    view = torch.arange(len(identity)).float()
    if azimuth is not None:  # adding 100, far from all angles, makes each image of unknown angle a view by itself
        view = examples.factors[azimuth].where(examples.factors[azimuth].isfinite(), view + 100)
    combinations = torch.stack([identity.double(), view.double()], -1).unique(dim=0)
    if len(combinations) == len(identity.unique()):
        return  # no identity has two views
    for key, by in READINGS:
        for block in codes.blocks:
            compute = partial(recall_at_1, codes.read_unseen(block, bool(by))[1], identity, view, seed=seed)
            yield _measurement(f"recall_at_1{key}/{block}", RECALL.format(by=by), block, "accuracy", compute)
    of_pixels = partial(recall_at_1, examples.images[:].flatten(1), identity, view, seed=seed)
    recall = RECALL.format(by="")
    yield _measurement(f"recall_at_1/{PIXELS}", recall, PIXELS, "accuracy", of_pixels)
    tested = len(identity.unique())
    by_chance = f"chance, {tested} identities" if tested > 1 else f"one identity measures nothing: {TEST_MORE}"
    chance = Number(recall, by_chance, recall_by_chance(identity, view), "accuracy")
    yield Measurement("chance of recall@1", lambda: {"recall_at_1_chance": chance})
    if azimuth is not None:
        left_out = identity[near_symmetric(codes.data.test, codes.data.train)].unique()
        count = Number("near-symmetric identities, left out of errors", "", len(left_out), "identities")
        yield Measurement("near-symmetric identities", lambda: {"near_symmetric": count})
    for name, circular in _named(codes.factors):
        for key, by in READINGS if codes.validation.varies(name) else ():
            for block in codes.blocks:
                compute_view = partial(_view, codes, name, circular, block, key, by)
                yield Measurement(f"view{by}: {name} from {block}", compute_view)


def _view(codes: Codes, name: str, circular: bool, block: str, key: str, by: str) -> dict[str, Number]:
    """One factor of the view read from one block, for unseen identities: its R2, and the median error of an angle."""
    validation, test = codes.read_unseen(block, bool(by))
    actual = codes.test.examples.factors[name]
    fitted = fit_regressors(validation, codes.validation.examples.factors[name], circular, seed=codes.seed)
    predicted = fitted(test)
    explained = r2(predicted, actual, circular)
    numbers = {f"view{key}/{name}/{block}": Number(f"{name}{by} of unseen identities", block, explained, "R2")}
    if circular:
        left_out = near_symmetric(codes.data.test, codes.data.train).numpy()
        error = float(np.nanmedian(np.where(left_out, np.nan, angle_error(predicted, actual))))
        numbers[f"view_error{key}/{name}/{block}"] = Number(
            f"median error{by} of {name} of unseen identities", block, error, "degrees"
        )
    return numbers


GROUP = "pyro_disent.metrics"
METRICS: tuple[Callable[[Codes], Iterator[Measurement]], ...] = (
    bounds,
    uses,
    aggregates,
    samples,
    counterfactuals,
    probes,
    leaks,
    opponents,
    pair_leaks,
    identities,
)
"""A metric yields the measurements that fit the data set, if any; metrics of other packages come after ours."""


def _measurement(key: str, measure: str, block: str, unit: str, compute: Callable[[], float]) -> Measurement:
    """A measurement that gives a single number."""
    return Measurement(f"{measure} from {block}", lambda: {key: Number(measure, block, compute(), unit)})


def _named(factors: list[Factor]) -> list[tuple[str, bool]]:
    return [(factor.name, factor.circular) for factor in factors]
