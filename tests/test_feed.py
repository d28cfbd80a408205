"""Batches without end, from a position that can be saved."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyro_disent.batch import Batch
from pyro_disent.data.dataset import Split
from pyro_disent.errors import InputError
from pyro_disent.models.latents import Latent, sharing
from pyro_disent.training.feed import Feed


class Numbered(Split):
    """Images whose pixel is their own number, and a factor that is drawn anew for each batch."""

    def __init__(self, count: int) -> None:
        super().__init__(torch.arange(count).reshape(count, 1, 1, 1))

    def batch(self, index: torch.Tensor, generator: torch.Generator, views: int = 2) -> Batch:
        images = self.images[index].float().expand(views, -1, -1, -1, -1)
        return Batch.unchecked(images, factors={"noise": torch.rand(views, len(index), generator=generator)})


LATENTS = (Latent("z", 1), Latent("noise", 1, explains=("noise",)))


def feed(count: int = 50, size: int = 16, seed: int = 0, **options: int) -> Feed:
    return Feed(Numbered(count), size, seed, 2, partial(sharing, LATENTS), **options)


def numbers(batch: Batch) -> list[int]:
    return batch.images[0].flatten().int().tolist()


def test_an_epoch_sees_each_image_at_most_once_in_full_batches() -> None:
    batches = feed()
    assert batches.batches_per_epoch == 3
    first = [numbers(batches.next()) for _ in range(3)]
    assert [len(batch) for batch in first] == [16, 16, 16] and len({n for batch in first for n in batch}) == 48
    second = [numbers(batches.next()) for _ in range(3)]
    assert batches.epoch == 1 and second != first


def test_what_a_pair_shares_is_read_off_its_factors() -> None:
    batch = feed().next()
    assert batch.shared["z"].all() and not batch.shared["noise"].any()


@settings(max_examples=20, deadline=None)
@given(before=st.integers(0, 8), after=st.integers(1, 8), seed=st.integers(0, 99))
def test_a_restored_feed_goes_on_as_the_first_would_have(before: int, after: int, seed: int) -> None:
    first, second = feed(seed=seed), feed(seed=seed)
    for _ in range(before):
        first.next()
    second.load_state_dict(first.state_dict())
    for _ in range(after):
        one, other = first.next(), second.next()
        assert torch.equal(one.images, other.images) and torch.equal(one.factors["noise"], other.factors["noise"])


def test_processes_share_a_batch_between_them() -> None:
    whole = numbers(feed().next())
    parts = [feed(rank=rank, world_size=2).next() for rank in (0, 1)]
    assert numbers(parts[0]) + numbers(parts[1]) == whole


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_see_together_what_one_would_have_seen(processes: int) -> None:
    """Also what was drawn for it: on another number of processes a run goes on with the same data."""
    one, parts = feed(), [feed(rank=rank, world_size=processes) for rank in range(processes)]
    for _ in range(5):
        whole, shares = one.next(), [part.next() for part in parts]
        assert torch.cat([share.images for share in shares], 1).equal(whole.images)
        assert torch.cat([share.factors["noise"] for share in shares], 1).equal(whole.factors["noise"])
        assert torch.cat([share.shared["noise"] for share in shares]).equal(whole.shared["noise"])


def test_seeds_differ_in_order_and_in_what_is_drawn() -> None:
    """Also those that have their lower 20 bits in common, which a shift would have made one."""
    firsts = [feed(seed=seed).next() for seed in (0, 1, 4096, 2**20, 2**32 - 1)]
    assert len({tuple(numbers(first)) for first in firsts}) == len(firsts)
    assert len({first.factors["noise"].sum().item() for first in firsts}) == len(firsts)


def test_a_batch_larger_than_the_data_is_refused() -> None:
    with pytest.raises(InputError, match="a batch of 51 images is larger than the data, which has 50 to train on"):
        feed(size=51)
