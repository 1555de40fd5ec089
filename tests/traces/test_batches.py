"""Order, sharing out and collation of a step."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadspan.records import Example, Sequence, Span
from leadspan.traces.batches import (
    collate,
    compute_order,
    num_forwarded_tokens,
    plan_micro_batches,
)


def _example(ids: list[int], prompt: int, cot: int, scored: list[int]) -> Example:
    sequence = Sequence(
        "row",
        np.array(ids, dtype=np.int32),
        Span(0, prompt),
        Span(prompt, cot),
        Span(cot, len(ids)),
    )
    mask = np.zeros(len(ids), dtype=bool)
    mask[scored] = True
    return Example(sequence, mask)


def test_collate_predicts_each_label_from_the_token_before_it() -> None:
    first = _example([10, 11, 12, 13, 14, 15], prompt=2, cot=4, scored=[2, 3])
    second = _example([20, 21, 22, 23], prompt=1, cot=3, scored=[1, 3])
    batch = collate([first, second])
    # Nothing after the last label is forwarded, and the last label itself is not either.
    assert batch.input_ids_BT.tolist() == [[10, 11, 12], [20, 21, 22]]
    assert batch.input_ids_BT.flatten()[batch.rows_N].tolist() == [11, 12, 20, 22]
    assert batch.labels_N.tolist() == [12, 13, 21, 23]
    assert batch.sections_N.tolist() == [1, 1, 1, 2]
    assert batch.num_tokens == 6


def test_collate_pads_on_the_right() -> None:
    long = _example(list(range(10, 18)), prompt=1, cot=8, scored=[7])
    short = _example([20, 21, 22], prompt=1, cot=3, scored=[2])
    batch = collate([short, long])
    assert batch.input_ids_BT.tolist() == [[20, 21, 0, 0, 0, 0, 0], [10, 11, 12, 13, 14, 15, 16]]
    assert batch.rows_N.tolist() == [1, 13]


def test_collate_of_nothing_scores_nothing() -> None:
    batch = collate([])
    assert batch.input_ids_BT.shape == (1, 1)
    assert batch.labels_N.numel() == 0
    assert batch.num_tokens == 0


def test_packed_examples_lie_end_to_end_and_count_positions_anew() -> None:
    long = _example(list(range(10, 18)), prompt=1, cot=8, scored=[7])
    short = _example([20, 21, 22], prompt=1, cot=3, scored=[1, 2])
    batch = collate([short, long], packed=True)
    assert batch.input_ids_BT.tolist() == [[20, 21, 10, 11, 12, 13, 14, 15, 16]]
    assert batch.positions_BT is not None
    assert batch.positions_BT.tolist() == [[0, 1, 0, 1, 2, 3, 4, 5, 6]]
    assert batch.rows_N.tolist() == [0, 1, 8]
    assert batch.labels_N.tolist() == [21, 22, 17]
    assert collate([], packed=True).input_ids_BT.shape == (1, 1)


def test_an_example_without_labels_forwards_nothing() -> None:
    assert num_forwarded_tokens(_example([1, 2, 3], prompt=1, cot=2, scored=[])) == 0


@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=30),
    st.integers(1, 100),
    st.integers(1, 4),
    st.booleans(),
)
def test_every_example_goes_through_once_within_the_budget(
    lengths: list[int], max_tokens: int, num_ranks: int, packed: bool
) -> None:
    plan = plan_micro_batches(lengths, max_tokens, num_ranks, packed)
    members = [index for rank in plan for one_pass in rank for index in one_pass]
    assert sorted(members) == list(range(len(lengths)))
    assert len({len(rank) for rank in plan}) == 1
    for rank in plan:
        for one_pass in rank:
            members = [lengths[index] for index in one_pass]
            cost = sum(members) if packed else len(members) * max(members, default=0)
            assert cost <= max_tokens or len(members) == 1
    if len(lengths) >= num_ranks:
        assert all(any(rank) for rank in plan), "a rank was left without work"


def test_order_is_one_shuffle_after_another_and_grows_without_changing() -> None:
    order = compute_order(7, 20, seed=3)
    assert sorted(order[:7]) == sorted(order[7:14]) == list(range(7))
    assert list(order[:7]) != list(order[7:14])
    assert list(compute_order(7, 10, seed=3)) == list(order[:10])
    assert list(compute_order(7, 20, seed=4)) != list(order)


@pytest.mark.parametrize(("size", "ranks"), [(5, 2), (9, 4)])
def test_ranks_share_the_tokens_about_evenly(size: int, ranks: int) -> None:
    lengths = [100] * size
    plan = plan_micro_batches(lengths, 10_000, ranks)
    shares = [sum(lengths[i] for one_pass in rank for i in one_pass) for rank in plan]
    assert max(shares) <= 2 * min(shares)
