"""What a pair shares of every latent: the one rule, and what comes of it on every data set."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from pyro_disent.batch import Batch, Pairing
from pyro_disent.data import registry
from pyro_disent.data.dataset import DataSet, Pairs
from pyro_disent.data.faces.drawn.faces import ATTRIBUTES
from pyro_disent.data.own.arrays import from_arrays
from pyro_disent.errors import InputError
from pyro_disent.models.latents import Latent, each, shared_by, sharing, surely_shared
from pyro_disent.models.specification import LatentSpec, build_latents, explains_from_text, spec_from_text
from pyro_disent.runs.presets import configure
from pyro_disent.training import building, datasets
from pyro_disent.training.announced import idle
from tests.models import linear_vae
from tests.table import tiny

FACTORS = ["a", "b", "c", "d"]
NAMES = st.lists(st.sampled_from(FACTORS), unique=True, min_size=1, max_size=3)


@st.composite
def roles(draw: st.DrawFn) -> Any:
    kind = draw(st.sampled_from(["common", "rest", "together", "each"]))
    return kind if kind in ("common", "rest") else (tuple if kind == "together" else lambda x: each(*x))(draw(NAMES))


@given(
    explained=st.lists(roles(), min_size=1, max_size=4),
    known=st.lists(st.sampled_from(FACTORS), unique=True, max_size=4),
    always=st.lists(st.sampled_from(FACTORS), unique=True, max_size=2),
    bits=st.lists(st.booleans(), min_size=12, max_size=12),
    rest_differs=st.booleans(),
)
def test_the_rule(
    explained: list[Any], known: list[str], always: list[str], bits: list[bool], rest_differs: bool
) -> None:
    """Written out image by image, from the sentences of `Latent` and no code of the rule."""
    values = torch.tensor(bits).reshape(4, 3)
    equal = {name: values[FACTORS.index(name)] for name in known if name not in always}
    latents = [
        Latent(f"l{place}", len(role.factors) if hasattr(role, "factors") else 2, explains=role)
        for place, role in enumerate(explained)
    ]
    masks = shared_by(latents, Pairing(equal, tuple(always), rest_differs), 3, torch.device("cpu"))
    named = {factor for latent in latents for factor in latent.factors}
    for latent in latents:
        for image in range(3):

            def has(factor: str, image: int = image) -> bool:
                return factor in always or (factor in equal and bool(equal[factor][image]))

            mask = masks[latent.name][image].tolist()
            if latent.explains == "common":
                assert mask == [True]
            elif latent.explains == "rest":
                beside = [] if any(each.explains == "common" for each in latents) else always
                others = [has(factor) for factor in (*equal, *beside) if factor not in named]
                assert mask == [not rest_differs and len(others) > 0 and all(others)]
            elif isinstance(latent.explains, tuple):
                assert mask == [all(has(factor) for factor in latent.explains)]
            else:
                assert mask == [has(factor) for factor in latent.explains.factors]


@pytest.mark.parametrize("explains", [5, None, [], "", ("a", "a"), (1,), each()])
def test_what_a_latent_cannot_explain(explains: Any) -> None:
    with pytest.raises(InputError, match="explains"):
        Latent("a", 1, explains=explains)


def test_masks_that_a_batch_brings_go_before_the_rule() -> None:
    vae = linear_vae([Latent("z", 3), Latent("y", 2, explains="rest")])
    images, own = torch.rand(2, 3, 1, 4, 5), torch.tensor([[False], [True], [False]])
    batch = vae.sharing(Batch(images, {"z": own}, {"angle": torch.tensor([[1.0, 2.0, 3.0], [1.0, 0.0, 3.0]])}))
    assert batch.shared["z"].equal(own)
    assert batch.shared["y"].squeeze(1).tolist() == [True, False, True]


class TestWords:
    @pytest.mark.parametrize(
        ("text", "explains"),
        [
            ("common", "common"),
            ("rest", "rest"),
            ("azimuth", ("azimuth",)),
            ("azimuth+elevation", ("azimuth", "elevation")),
            ("each:red,green,blue", each("red", "green", "blue")),
        ],
    )
    def test_explains(self, text: str, explains: Any) -> None:
        assert explains_from_text(text) == explains
        spec = LatentSpec(3, explains=explains)
        assert LatentSpec.from_json(spec.to_json(), "a") == spec

    @pytest.mark.parametrize(
        ("text", "spec"),
        [
            ("3", {"units": 3}),
            ("1:circle", {"units": 1, "family": "circle", "settings": {}}),
            ("2:conditional,parents=z,hidden=8",
             {"units": 2, "family": "conditional", "settings": {"parents": "z", "hidden": "8"}}),
        ],
    )  # fmt: skip
    def test_latent(self, text: str, spec: dict[str, Any]) -> None:
        assert spec_from_text(text, "--latent a") == spec

    @pytest.mark.parametrize("text", ["", "x", "1.5", "-1", "2:", "2:circle,", "2:circle,x", "2:circle,=3", ":circle"])
    def test_no_latent(self, text: str) -> None:
        with pytest.raises(InputError, match="--latent a"):
            spec_from_text(text, "--latent a") if text not in ("2:",) else spec_from_text("2:,x=1", "--latent a")

    def test_by_name(self) -> None:
        latents = build_latents({"azimuth": LatentSpec(1), "z": LatentSpec(2), "view": LatentSpec(3)},
                                ["azimuth", "elevation"], joint={"view": ("azimuth", "elevation")})  # fmt: skip
        assert [latent.explains for latent in latents] == [("azimuth",), "common", ("azimuth", "elevation")]

    @pytest.mark.parametrize(
        ("name", "spec", "says"),
        [
            ("light_azimut", LatentSpec(1), "no such factor; did you mean light_azimuth"),
            ("Light_Azimuth", LatentSpec(1), "did you mean light_azimuth"),
            ("azimuth_light", LatentSpec(1), "did you mean light_azimuth"),
            ("light_azi", LatentSpec(1), "did you mean light_azimuth"),
            ("lihgt_azimuth", LatentSpec(1), "did you mean light_azimuth"),
            ("IDENTITY", LatentSpec(1), "did you mean identity"),
            ("z", 5.0, "a number of units, a table or a Latent is needed"),
            ("z", {"units": 2, "explains": 5}, "explains 5: that is"),
            ("z", {"units": 2, "settings": [1]}, "a family is a name, and its settings a table"),
            ("z", {"units": 2, "family": ["circle"]}, "a family is a name"),
            ("a", Latent("b", 3), "the latent 'b' is called 'a' here"),
            ("pose", LatentSpec(1, explains=("light_azimut",)), "no factor of this data.*did you mean light_azimuth"),
            ("pose", LatentSpec(1, explains=("nothing",)), "no factor of this data: there are light_azimuth, identity"),
            ("z", LatentSpec(3, explains=each("light_azimuth")), "3 units but explains 1 factors"),
            ("z", LatentSpec(1, explains=each("light")), "unit explains one factor, and light is several"),
        ],
    )
    def test_refused(self, name: str, spec: Any, says: str) -> None:
        with pytest.raises(InputError, match=says):
            build_latents(
                {name: LatentSpec.of(spec, name)},
                ["light_azimuth"],
                of_pairs=["identity"],
                joint={"light": ("light_azimuth",)},
            )

    def test_every_factor_one_a_unit(self) -> None:
        (latent,) = build_latents({"z": LatentSpec(2, explains=each("*"))}, ["a", "b"], of_pairs=["identity"])
        assert latent.explains == each("a", "b")


IDS = np.repeat(np.arange(12), 4)
SIDE, SIZE = np.arange(48) % 2, (np.arange(48) % 4 == 3).astype(int)


def a_folder(tmp_path: Path, metadata: bool) -> str:
    root = tmp_path / "faces"
    for number, who in enumerate(IDS):
        path = root / f"p{who}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(number).integers(0, 255, (8, 8), np.uint8)).save(path)
    if metadata:
        rows = [f"p{who}/{number}.png,p{who},{SIDE[number]},{SIZE[number]}" for number, who in enumerate(IDS)]
        (root / "metadata.csv").write_text("\n".join(["file_name,person,side,size", *rows]))
    return str(root)


def loaded(case: str, tmp_path: Path, **options: Any) -> DataSet:
    if case == "arrays":
        return from_arrays(np.random.default_rng(0).integers(0, 255, (48, 8, 8), np.uint8), identity=IDS,
                           factors={"side": SIDE, "size": SIZE}, **options)  # fmt: skip
    if case in ("folder", "metadata"):
        return registry.load(a_folder(tmp_path, case == "metadata"), image_size=8, channels=1, **options)
    if case == "chairs":  # a pair that has its view in common shows two of them
        options |= {"counts": (4, 3, 3)}
    return datasets.load_data(tiny("cycle", case, options=tiny("vae", case).options | options, limit=None))


def made_of(data: DataSet, latents: Mapping[str, Any]) -> dict[str, Latent]:
    """Latents of a data set, by their names."""
    specs = {name: LatentSpec.of(spec, name) for name, spec in latents.items()}
    factors = [factor.name for factor in data.factors]
    return {latent.name: latent for latent in build_latents(specs, factors, of_pairs=data.of_pairs, joint=data.joint)}


OF_ONE = Pairs((("identity",),), identities=("identity",))
CHANGES_AZIMUTH = Pairs((("identity", "elevation", "zoom"),), identities=("identity",))
OF_TWO_KINDS = Pairs((("identity",), ("azimuth", "elevation")), identities=("identity",))


def shares(data: DataSet, latents: Mapping[str, Any]) -> dict[str, Tensor]:
    """What 200 training pairs share of latents, by what they explain."""
    made = list(made_of(data, latents).values())
    index = torch.arange(200) % len(data.train)
    batch = data.train.batch(index, torch.Generator().manual_seed(0))
    return dict(sharing(made, batch).shared)


ALWAYS, NEVER, SOMETIMES = "always", "never", "sometimes"
VIEW = {"units": 2, "explains": ["azimuth", "elevation"]}
REST = {"units": 2, "explains": "rest"}
KINDS = {"identity": 3, "view": 2, "zoom": 1}
TABLE: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, str]]] = [
    ("chairs", {}, {"z": 3, "y": REST}, {"z": ALWAYS, "y": NEVER}),
    ("chairs", {}, {"identity": 3, "y": REST}, {"identity": ALWAYS, "y": NEVER}),
    ("chairs", {}, {"z": 3, "azimuth": 1, "pose": VIEW}, {"z": ALWAYS, "azimuth": SOMETIMES, "pose": NEVER}),
    ("chairs", {"factors": ["azimuth", "elevation"], "zooms": 2}, {"z": 3, "azimuth": 1, "elevation": 1, "y": REST},
     {"z": ALWAYS, "azimuth": SOMETIMES, "elevation": SOMETIMES, "y": ALWAYS}),
    ("chairs", {"factors": ["azimuth", "zoom"], "zooms": 2}, {"z": 3, "pose": VIEW, "y": REST},
     {"z": ALWAYS, "pose": SOMETIMES, "y": SOMETIMES}),
    ("chairs", {"pair_by": ["identity", "view"]}, KINDS, {"identity": SOMETIMES, "view": SOMETIMES, "zoom": NEVER}),
    ("chairs", {"pair_by": ["view"]}, {"z": 3, "identity": 2}, {"z": ALWAYS, "identity": NEVER}),
    ("rotated-mnist", {}, {"z": 3, "y": REST}, {"z": ALWAYS, "y": NEVER}),
    ("rotated-mnist", {}, {"z": 3, "rotation": 1}, {"z": ALWAYS, "rotation": NEVER}),
    ("rotated-mnist", {"factors": ["rotation", "scale"]}, {"z": 3, "rotation": 1, "scale": 1, "y": REST},
     {"z": ALWAYS, "rotation": SOMETIMES, "scale": SOMETIMES, "y": NEVER}),
    ("colored-mnist", {}, {"z": 3, "y": REST}, {"z": ALWAYS, "y": NEVER}),
    ("colored-mnist", {}, {"z": 3, "color": {"units": 3, "explains": {"each": ["red", "green", "blue"]}}},
     {"z": ALWAYS, "color": "unit by unit"}),
    ("celeba", {}, {"z": {"units": 40, "explains": {"each": ["*"]}}, "y": REST}, {"z": "unit by unit", "y": NEVER}),
    ("celeba", {}, {"z": 7, "y": REST}, {"z": ALWAYS, "y": NEVER}),
    ("celeba", {}, {"Male": 2, "y": REST}, {"Male": SOMETIMES, "y": NEVER}),
    ("folder", {}, {"z": 3, "y": REST}, {"z": ALWAYS, "y": NEVER}),
    ("metadata", {"pair_by": "person"}, {"z": 3, "side": 1, "y": REST}, {"z": ALWAYS, "side": SOMETIMES, "y": NEVER}),
    ("metadata", {"pair_by": "person"}, {"person": 3, "both": {"units": 1, "explains": ["side", "size"]}},
     {"person": ALWAYS, "both": SOMETIMES}),
    ("metadata", {"pair_by": ["person", "side"]}, {"person": 3, "side": 1, "y": REST},
     {"person": SOMETIMES, "side": SOMETIMES, "y": NEVER}),
    ("arrays", {}, {"z": 3, "side": 1, "y": REST}, {"z": ALWAYS, "side": SOMETIMES, "y": NEVER}),
    ("arrays", {"pair_by": ["identity", "side"]}, {"identity": 3, "side": 1},
     {"identity": SOMETIMES, "side": SOMETIMES}),
]  # fmt: skip


@pytest.mark.parametrize(("case", "options", "latents", "expected"), TABLE, ids=[
    f"{case}-{'-'.join(options) or 'plain'}-{'-'.join(latents)}" for case, options, latents, _ in TABLE
])  # fmt: skip
def test_what_is_shared(
    case: str, options: dict[str, Any], latents: dict[str, Any], expected: dict[str, str], tmp_path: Path
) -> None:
    masks = shares(loaded(case, tmp_path, **options), latents)
    assert list(masks) == list(latents)
    for name, said in expected.items():
        mask = masks[name]
        if said == "unit by unit":
            assert mask.shape[1] > 1 and not mask.all() and (mask != mask[:, :1]).any()
        else:
            found = ALWAYS if mask.all() else SOMETIMES if mask.any() else NEVER
            assert mask.shape[1] == 1 and found == said, name


@pytest.mark.parametrize(("case", "options"), [(case, options) for case, options, *_ in TABLE if "pair_by" in options])
def test_pairs_are_of_the_kinds_that_were_asked_for(case: str, options: dict[str, Any], tmp_path: Path) -> None:
    """Each pair has all of one kind in common, each kind occurs, and no image is its own partner."""
    data = loaded(case, tmp_path, **options)
    index = torch.arange(400) % len(data.train)
    batch = data.train.batch(index, torch.Generator().manual_seed(1))
    known = batch.in_common()
    assert not (batch.images[0] == batch.images[1]).flatten(1).all(1).any()

    def equal(factor: str) -> Tensor:
        return torch.ones(400, dtype=torch.bool) if factor in known.always else known.equal[factor]

    of_kind = [torch.stack([equal(factor) for factor in kind]).all(0) for kind in data.pairs.kinds]
    assert torch.stack(of_kind).any(0).all()
    for place, mask in enumerate(of_kind):
        others = [other for other in range(len(of_kind)) if other != place]
        assert (mask & ~torch.stack([of_kind[other] for other in others]).any(0)).sum() > 40 if others else mask.all()


def test_kinds_of_pairs_that_make_no_sense(tmp_path: Path) -> None:
    for options, says in [
        (
            {"pair_by": ["identity", "tilt"]},
            "no tilt in common: choose from identity, azimuth, elevation, zoom, view",
        ),
        ({"pair_by": ["view", "view"]}, "once"),
        ({"pair_by": ["view"], "factors": ["zoom"]}, "say one of the two"),
    ]:
        with pytest.raises(InputError, match=says):
            loaded("chairs", tmp_path, **options)
    with pytest.raises(InputError, match="pairs cannot be made by color: factors are side, size"):
        loaded("arrays", tmp_path, pair_by=["identity", "color"])


def test_common_has_no_meaning_for_pairs_that_have_nothing_in_common(tmp_path: Path) -> None:
    config = tiny("cycle", "chairs", options={"counts": (4, 3, 3), "pair_by": ["identity", "view"]})
    data = datasets.load_data(config)
    with pytest.raises(InputError, match=r"z stands for what pairs have in common, and pairs of several kinds"):
        building.latents(config, data)
    right = tiny("cycle", "chairs", options=config.options, latents={"z": {"units": 0}, "y": {"units": 0}, **KINDS})
    assert [latent.explains for latent in building.latents(right, data)] == [
        ("identity",), ("azimuth", "elevation"), ("zoom",)
    ]  # fmt: skip


VIEWS = ["azimuth", "elevation", "zoom"]
WHO, REST_OF_IT = Latent("who", 2, explains=("identity",)), Latent("y", 1, explains="rest")


@pytest.mark.parametrize(
    ("latents", "pairs", "factors", "shared"),
    [
        ([Latent("z", 2), REST_OF_IT], OF_ONE, VIEWS, ("z",)),
        ([WHO, Latent("view", 1, explains=("azimuth",))], OF_ONE, VIEWS, ("who",)),
        ([Latent("z", 2, explains=each("a", "b")), REST_OF_IT], Pairs(rest_differs=True), ["a", "b"], ("z",)),
        ([Latent("pose", 2, explains=each("azimuth", "elevation")), Latent("z", 2)], OF_ONE, VIEWS, ("z",)),
        ([Latent("z", 2), Latent("azimuth", 1, explains=("azimuth",)), REST_OF_IT], CHANGES_AZIMUTH, VIEWS, ("z", "y")),
        ([Latent("view", 2, explains=("azimuth", "elevation")), Latent("zoom", 1, explains=("zoom",)), REST_OF_IT],
         OF_TWO_KINDS, VIEWS, ("y",)),
        ([WHO, Latent("view", 2, explains=("azimuth", "elevation"))], OF_TWO_KINDS, VIEWS, ("who",)),
    ],
)  # fmt: skip
def test_what_a_swap_takes_from_the_row(
    latents: list[Latent], pairs: Pairs, factors: list[str], shared: tuple[str, ...]
) -> None:
    assert surely_shared(latents, pairs.typical_pair(factors)) == shared
    assert Pairs.from_json(json.loads(json.dumps(pairs.to_json()))) == pairs


@pytest.mark.parametrize(
    "options", [{}, {"factors": ["azimuth", "zoom"], "zooms": 2}, {"pair_by": ["identity", "view"]}]
)
def test_training_and_swap_agree(options: dict[str, Any], tmp_path: Path) -> None:
    """What a swap takes from the row is shared in some pair; what no pair ever shares comes from the column."""
    data = loaded("chairs", tmp_path, **options)
    for latents in (
        {"identity": 2, "view": 2, "zoom": 1},
        {"view": 2, "zoom": 1, "y": REST},
        {"identity": 3, "y": REST},
    ):
        masks = shares(data, latents)
        made = [Latent(name, 1, explains=latent.explains) for name, latent in made_of(data, latents).items()
                if not hasattr(latent.explains, "factors")]  # fmt: skip
        for name in surely_shared(made, data.pairs.typical_pair(VIEWS)):
            assert masks[name].any(), name


def test_a_rest_of_nothing_is_shared_by_nobody(tmp_path: Path) -> None:
    """With all factors named and a common latent, nothing is left: the identity is what is common."""
    for case, latents in (("chairs", {"azimuth": 1, "elevation": 1, "zoom": 1}), ("rotated-mnist", {"rotation": 1})):
        data = loaded(case, tmp_path)
        assert not shares(data, {"z": 3, **latents, "y": REST})["y"].any()
        assert idle(list(made_of(data, {"z": 3, **latents, "y": REST}).values()), data) == ["y"]
        assert shares(data, {**latents, "y": REST})["y"].all()  # where nobody is common, the identity is of the rest
        assert idle(list(made_of(data, {**latents, "y": REST}).values()), data) == []


def test_a_method_about_pairs_needs_a_latent_that_can_be_shared() -> None:
    config = tiny("similarity", "celeba", latents={"z": {"units": 0}})
    with pytest.raises(InputError, match="about what pairs share, and none of y is ever shared"):
        building.latents(config, datasets.load_data(config))


def test_celeba_takes_any_z_that_says_what_it_explains() -> None:
    data = datasets.load_data(tiny("cycle", "celeba"))
    for said, explains in (({}, each(*ATTRIBUTES)), ({"z": {"units": 10, "explains": "common"}}, "common")):
        config = configure("cycle", "celeba", "quick", {"latents": said})
        assert building.latents(config, data)[0].explains == explains
    with pytest.raises(InputError, match=r"'z' has 10 units but explains 40 factors.*say what it explains"):
        building.latents(configure("cycle", "celeba", "quick", {"latents": {"z": 10}}), data)


def test_a_latent_that_sees_noise_alone_is_said() -> None:
    config = tiny("cycle", options={"factors": ["rotation", "scale"]}, latents={"rotation": 1, "scale": 1})
    data = datasets.load_data(config)
    assert idle(building.latents(config, data), data) == ["y"]
    for other in ({"latents": {"rotation": 1}}, {"latents": {"rotation": 1, "scale": 1, "y": {"units": 0}}}):
        without = tiny("cycle", options={"factors": ["rotation", "scale"]}, **other)
        assert idle(building.latents(without, data), data) == []


def test_no_code_asks_for_a_latents_name() -> None:
    """Roles are said: outside of the presets and of the old rule for old records, nothing compares with "y" or "z"."""
    found = {
        f"{path.name}: {line.strip()}"
        for path in Path(building.__file__).parents[1].rglob("*.py")
        for line in path.read_text().splitlines()
        if any(f"{quote}{name}{quote}" in line for name in "yz" for quote in "\"'")
    }
    assert {line.split(":")[0] for line in found} <= {"record.py"}, found
