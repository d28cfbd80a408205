"""Pairs within groups: who may be whose partner, how often, and that finding one never waits for the host."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from pyro_disent.batch import Batch
from pyro_disent.data.dataset import Pairs
from pyro_disent.data.grouped import GroupedSplit, alone
from pyro_disent.data.images.store import ImagesOnDisk
from pyro_disent.errors import InputError
from tests.test_device import NoReadBack

LEVEL = 0.001
"""Of the chi-square tests, whose seeds are fixed."""


def split_of(*ways: list[int], images: int | None = None) -> GroupedSplit:
    """Image ``i`` is a single pixel of brightness ``i``, so that a batch shows which images it took."""
    total = len(ways[0]) if ways else images or 0
    place = torch.arange(total)
    return GroupedSplit(
        place.to(torch.uint8).reshape(-1, 1, 1, 1),
        {"identity": place // 2},
        {"place": place.float(), "parity": (place % 2).float()},
        kinds(len(ways)),
        {f"way {number}": torch.tensor(way) for number, way in enumerate(ways)},
    )


def kinds(count: int) -> Pairs | None:
    """Pairs by the ways that are called by their numbers; None where there is none."""
    return Pairs(tuple((f"way {number}",) for number in range(count))) if count else None


def taken(batch: Batch) -> Tensor:
    """Places of the images in a batch, ``(views, images)``."""
    return (batch.images * 255).round().long().flatten(1)


def partners(image: int, way: list[int]) -> set[int]:
    return {other for other, group in enumerate(way) if group == way[image] and other != image}


def drawn(split: GroupedSplit, image: int, times: int, seed: int = 0) -> Counter[int]:
    """How often each image was the partner of one."""
    index = torch.full((times,), image)
    return Counter(taken(split.batch(index, torch.Generator().manual_seed(seed)))[1].tolist())


@st.composite
def groupings(draw: st.DrawFn) -> list[list[int]]:
    """One to three ways to group a few images, by numbers that need not begin at 0, follow each other or be sorted."""
    total = draw(st.integers(1, 12))
    label = st.sampled_from([-7, 0, 1, 2, 40])
    return draw(st.lists(st.lists(label, min_size=total, max_size=total), min_size=1, max_size=3))


@settings(max_examples=150, deadline=None)
@given(ways=groupings(), seed=st.integers(0, 2**31))
def test_a_partner_is_another_image_of_a_common_group(ways: list[list[int]], seed: int) -> None:
    total = len(ways[0])
    allowed = [set().union(*(partners(image, way) for way in ways)) for image in range(total)]
    lonely = [image for image in range(total) if not allowed[image]]
    assert alone([torch.tensor(way) for way in ways]).tolist() == lonely
    if lonely:
        with pytest.raises(InputError, match=rf"image {lonely[0]} of {total} has no other"):
            split_of(*ways)
        return
    split = split_of(*ways)
    index = torch.randint(total, (60,), generator=torch.Generator().manual_seed(seed))
    batch = split.batch(index, torch.Generator().manual_seed(seed))
    first, second = taken(batch)
    assert torch.equal(first, index)
    assert all(other in allowed[image] for image, other in zip(first.tolist(), second.tolist(), strict=True))
    for name, values in split.factors.items():
        assert torch.equal(batch.factors[name], values[taken(batch)])


@settings(max_examples=40, deadline=None)
@given(ways=groupings())
def test_each_partner_is_found_sooner_or_later(ways: list[list[int]]) -> None:
    if len(alone([torch.tensor(way) for way in ways])):
        return
    split, total = split_of(*ways), len(ways[0])
    # Of at most 11 partners in each of 3 ways: one is missed in 1500 draws with a probability below 1e-19.
    index = torch.arange(total).repeat_interleave(1500)
    first, second = taken(split.batch(index, torch.Generator().manual_seed(0)))
    for image in range(total):
        assert set(second[first == image].tolist()) == set().union(*(partners(image, way) for way in ways))


def test_every_partner_is_equally_likely() -> None:
    way = [3, 1, 3, 3, 1, 3, 3, 3, 1, 3]  # a group of seven and one of three, in no order
    split = split_of(way)
    for image in range(len(way)):
        counted = drawn(split, image, 3_000, seed=image)
        assert set(counted) == partners(image, way)
        assert chisquare(list(counted.values())).pvalue > LEVEL / len(way)


def test_images_of_one_batch_draw_independently() -> None:
    index = torch.zeros(6_000, dtype=torch.long)
    second = taken(split_of([0, 0, 0, 0]).batch(index, torch.Generator().manual_seed(1)))[1]
    following = Counter(zip(second[:-1].tolist(), second[1:].tolist(), strict=True))
    assert len(following) == 9 and chisquare(list(following.values())).pvalue > LEVEL


def test_ways_are_chosen_fairly_among_those_with_a_partner() -> None:
    """A way is as likely as another, however many partners there are in it; one without any is never chosen."""
    ways = [
        [0, 0, 0, 1, 1, 1, 1, 2],  # image 0: two partners
        [0, 1, 1, 0, 0, 0, 0, 1],  # four
        [0, 1, 2, 3, 4, 5, 6, 7],  # none
        [0, 1, 2, 3, 4, 5, 6, 0],  # one
    ]
    draws = 12_000
    counted = drawn(split_of(*ways), 0, draws)
    expected = dict.fromkeys((1, 2), draws / 6) | dict.fromkeys((3, 4, 5, 6), draws / 12) | {7: draws / 3}
    assert set(counted) == set(expected)
    assert chisquare([counted[other] for other in expected], list(expected.values())).pvalue > LEVEL
    alone_but_in_one = [[0, 0, 1, 2], [0, 1, 2, 2], [4, 5, 6, 7]]
    assert set(drawn(split_of(*alone_but_in_one), 0, 200)) == {1}
    assert set(drawn(split_of(*alone_but_in_one), 3, 200)) == {2}


def test_what_a_way_holds_equal_is_equal() -> None:
    """A grid of two factors in a random order, grouped by either: a pair changes one of them and keeps the other."""
    cells = torch.cartesian_prod(torch.arange(4), torch.arange(5))[torch.randperm(20)]
    row, column = cells.T
    images = torch.zeros(20, 1, 1, 1, dtype=torch.uint8)
    split = GroupedSplit(images, {}, {"row": row.float(), "column": column.float()}, Pairs((("row",), ("column",))))
    factors = split.batch(torch.arange(20).repeat(400), torch.Generator().manual_seed(0)).factors
    changed = {name: values[0] != values[1] for name, values in factors.items()}
    assert (changed["row"] ^ changed["column"]).all()
    assert chisquare([changed["row"].sum(), changed["column"].sum()]).pvalue > LEVEL


def test_one_view_is_the_image_itself_and_draws_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    for split in (split_of([0, 0, 1, 1]), split_of(images=4)):
        batch = split.batch(torch.tensor([3, 0, 3]), generator, views=1)
        assert batch.images.shape == (1, 3, 1, 1, 1) and taken(batch).tolist() == [[3, 0, 3]]
        assert batch.factors["place"].tolist() == [[3, 0, 3]]
    assert torch.equal(generator.get_state(), before)


def test_without_groups_there_are_no_pairs() -> None:
    with pytest.raises(InputError, match="no pairs: nothing says which of them belong together"):
        split_of(images=4).batch(torch.arange(4), torch.Generator())


def test_a_seed_fixes_the_pairs() -> None:
    split = split_of([0] * 50, [0, 1] * 25)
    one, same, other = (split.batch(torch.arange(50), torch.Generator().manual_seed(seed)) for seed in (5, 5, 6))
    assert torch.equal(one.images, same.images) and not torch.equal(one.images, other.images)


def test_every_image_is_an_example_once() -> None:
    split = split_of([0, 0, 1, 1])
    examples = split.examples(seed=3)
    assert examples.images[:].flatten().tolist() == [0, 1, 2, 3]
    assert examples.factors["parity"].tolist() == [0, 1, 0, 1] and examples.labels["identity"].tolist() == [0, 0, 1, 1]


def test_images_may_lie_on_the_disk(tmp_path: Path) -> None:
    in_memory = split_of([0, 0, 0, 1, 1], [0, 1, 2, 0, 1])
    (tmp_path / "pixels").write_bytes(in_memory.images[:].numpy().tobytes())
    mapped = ImagesOnDisk(tmp_path / "pixels", (1, 1, 1), torch.arange(5))
    on_disk = GroupedSplit(
        mapped, in_memory.labels, in_memory.factors, kinds(1), {"way 0": torch.tensor([0, 0, 0, 1, 1])}
    )
    in_memory = split_of([0, 0, 0, 1, 1])
    one, two = (split.batch(torch.arange(5), torch.Generator().manual_seed(2)) for split in (in_memory, on_disk))
    assert torch.equal(one.images, two.images)


@pytest.mark.parametrize("ways", [1, 2])
class TestDevice:
    """As in `tests.test_device`; here for several ways to pair, which no built-in data set has unless asked."""

    @staticmethod
    def groups(ways: int) -> list[Tensor]:
        return [
            torch.tensor([0, 0, 0, 1, 1, 1], device="cpu"),
            torch.tensor([0, 1, 2, 0, 1, 2], device="cpu"),
        ][:ways]

    def split(self, ways: int) -> GroupedSplit:
        images = torch.zeros(6, 1, 2, 2, dtype=torch.uint8, device="cpu")
        groups = {f"way {number}": group for number, group in enumerate(self.groups(ways))}
        return GroupedSplit(images, {}, {"place": torch.arange(6.0, device="cpu")}, kinds(ways), groups)

    def test_nothing_is_made_on_a_default_device(self, ways: int) -> None:
        with torch.device("meta"):
            assert alone(self.groups(ways)).tolist() == []
            split = self.split(ways)
            batch = split.batch(torch.arange(6, device="cpu"), torch.Generator("cpu"))
        assert batch.images.device.type == "cpu" and batch.factors["place"].device.type == "cpu"

    def test_nothing_is_read_back(self, ways: int) -> None:
        split = self.split(ways)
        with NoReadBack() as mode:
            split.batch(torch.arange(6), torch.Generator())
        assert "index" in mode.names

    def test_on_simulated_cuda(self, ways: int) -> None:
        split = self.split(ways)
        with FakeTensorMode(allow_non_fake_inputs=True):
            split.to("cuda")
            index = torch.arange(6, device="cuda")
            for views in (1, 2):
                batch = split.batch(index, torch.Generator(), views)
                assert batch.images.device.type == "cuda" and batch.factors["place"].device.type == "cuda"
            with pytest.raises(RuntimeError, match="device"):
                split.batch(index.cpu(), torch.Generator())

    def test_everything_moves(self, ways: int) -> None:
        split = self.split(ways).to("meta")
        tensors = [value for value in vars(split).values() if isinstance(value, Tensor)]
        assert len(tensors) == 5 and all(value.is_meta for value in (*tensors, *split.factors.values()))
