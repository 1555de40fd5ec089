"""Exactly which token ids are labels, for each policy and section setting, on hand-made sequences."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadspan.config import SupervisionConfig, TruncationConfig
from leadspan.errors import ConfigError
from leadspan.records import SECTIONS, Section, Sequence, Span
from leadspan.traces.cut import (
    CLOSE_TOKENS,
    OPEN_TOKENS,
    TOKENS_SUFFIX,
    Cut,
    report_cuts,
    share_of,
    supervise,
    truncate,
)

P = [10, 11, 12]
C = [50, 20, 21, 22, 23, 24, 25, 51]  # 50 opens, 51 closes
A = [30, 31, 99]  # 99 ends the turn


def sequence(closed: bool = True, **meta: object) -> Sequence:
    """14 tokens: 3 prompt, 8 CoT with its markers, 3 answer; unclosed: 3 and 7."""
    ids = [*P, *C, *A] if closed else [*P, *C[:-1]]
    cot_end = 11 if closed else 10
    return Sequence(
        trace_id="t",
        input_ids_T=np.array(ids, dtype=np.int32),
        prompt=Span(0, 3),
        cot=Span(3, cot_end),
        answer=Span(cot_end, len(ids)),
        closed=closed,
        meta={OPEN_TOKENS: 1, CLOSE_TOKENS: int(closed), **meta},
    )


def labels(cut: Sequence, *sections: Section) -> list[int]:
    """The label ids in the order in which a causal model predicts them (position t from t - 1)."""
    mask = supervise(cut, SupervisionConfig(sections=sections)).supervised_T
    shifted_labels, shifted_mask = cut.input_ids_T[1:], mask[1:]
    return [int(label) for label in shifted_labels[shifted_mask]]


ALL = ("prompt", "cot", "answer")
TABLE = [
    # options, sections, ids that go through the model, ids that are labels
    ({}, ("answer",), [*P, *C, *A], [30, 31, 99]),
    ({}, ("prompt",), [*P, *C, *A], [11, 12]),
    ({}, ("cot",), [*P, *C, *A], C),
    ({}, ("prompt", "answer"), [*P, *C, *A], [11, 12, *A]),
    ({}, ("prompt", "cot"), [*P, *C, *A], [11, 12, *C]),
    ({}, ("cot", "answer"), [*P, *C, *A], [*C, *A]),
    ({}, ALL, [*P, *C, *A], [11, 12, *C, *A]),
    ({"lsp": 0.5}, ("answer",), [*P, 50, 20, 21, 22], []),
    ({"lsp": 0.5}, ("cot",), [*P, 50, 20, 21, 22], [50, 20, 21, 22]),
    ({"lsp": 0.5}, ALL, [*P, 50, 20, 21, 22], [11, 12, 50, 20, 21, 22]),
    ({"lsp": 0.01}, ALL, [10], []),
    ({"lsp": 0.8}, ("cot", "answer"), [*P, *C], C),
    ({"lsp": 0.9}, ("cot", "answer"), [*P, *C, 30], [*C, 30]),
    ({"lsp": 0.5, "of": "cot"}, ("cot", "answer"), [*P, 50, 20, 21, 22], [50, 20, 21, 22]),
    ({"lsp": 1.0, "of": "cot"}, ("cot", "answer"), [*P, *C, *A], [*C, *A]),
    ({"max_tokens": 5}, ("cot", "answer"), [*P, 50, 20], [50, 20]),
    ({"max_tokens": 99}, ("answer",), [*P, *C, *A], A),
    ({"lsp": 0.5, "max_tokens": 4}, ALL, [*P, 50], [11, 12, 50]),
    ({"policy": "end_of_cot"}, ("cot", "answer"), [*P, *C], C),
    ({"policy": "end_of_cot"}, ("answer",), [*P, *C], []),
    ({"lsp": 0.5, "keep": "tail"}, ("cot", "answer"), [*P, 51, *A], [51, *A]),
    ({"lsp": 0.5, "keep": "tail"}, ("prompt",), [*P, 51, *A], [11, 12]),
    ({"lsp": 0.5, "keep": "tail"}, ALL, [*P, 51, *A], [11, 12, 51, *A]),
    ({"lsp": 0.5, "keep": "middle"}, ("cot",), [*P, 22, 23, 24, 25], [22, 23, 24, 25]),
    (
        {"lsp": 0.5, "keep": "tail", "keep_prompt": False},
        ("cot", "answer"),
        [23, 24, 25, 51, *A],
        [24, 25, 51, *A],  # nothing stands before 23, so it is no label
    ),
    (
        {"lsp": 0.5, "keep": "middle", "keep_prompt": False},
        ALL,
        [50, 20, 21, 22, 23, 24, 25],
        [20, 21, 22, 23, 24, 25],
    ),
    ({"lsp": 0.1, "keep": "tail"}, ALL, [10], []),
    (
        {"policy": "bridge", "lsp": 0.5},
        ("cot", "answer"),
        [*P, 50, 20, 21, 51, *A],
        [50, 20, 21, 51, *A],
    ),
    ({"policy": "bridge", "lsp": 0.5}, ("answer",), [*P, 50, 20, 21, 51, *A], A),
    ({"policy": "bridge", "lsp": 1.0}, ("cot",), [*P, *C, *A], C),
]


@pytest.mark.parametrize(
    ("options", "sections", "kept", "scored"),
    TABLE,
    ids=[f"{number}-{row[0]}-{'+'.join(row[1])}" for number, row in enumerate(TABLE)],
)
def test_exact_labels(
    options: dict[str, object], sections: tuple[Section, ...], kept: list[int], scored: list[int]
) -> None:
    (cut,) = truncate([sequence()], **options)
    assert cut.input_ids_T.tolist() == kept
    assert labels(cut, *sections) == scored


UNCLOSED = [
    ({}, [*P, *C[:-1]], False, True),
    ({"lsp": 0.5}, [*P, 50, 20], True, True),
    ({"policy": "end_of_cot"}, [*P, *C[:-1]], False, True),
    ({"policy": "bridge", "lsp": 0.5}, [*P, 50, 20, 21], True, True),
    ({"lsp": 0.5, "keep": "tail"}, [*P, 24, 25], True, False),
]


@pytest.mark.parametrize(("options", "kept", "was_cut", "is_prefix"), UNCLOSED)
def test_unclosed_traces_have_no_end_under_any_policy(
    options: dict[str, object], kept: list[int], was_cut: bool, is_prefix: bool
) -> None:
    (cut,) = truncate([sequence(closed=False)], **options)
    assert cut.input_ids_T.tolist() == kept
    assert (cut.closed, cut.was_cut, cut.is_prefix) == (False, was_cut, is_prefix)
    assert labels(cut, "answer") == []


FLAGS = [
    # options, was_cut, closed, is_prefix
    ({}, False, True, True),
    ({"lsp": 0.5}, True, False, True),
    ({"lsp": 0.8}, True, True, True),
    ({"policy": "end_of_cot"}, True, True, True),
    ({"policy": "bridge", "lsp": 0.5}, True, True, False),
    ({"lsp": 0.5, "keep": "tail"}, True, True, False),
    ({"lsp": 0.5, "keep": "middle"}, True, False, False),
    ({"lsp": 0.5, "keep": "middle", "keep_prompt": False}, True, False, False),
    ({"lsp": 1.0, "keep": "tail"}, False, True, True),
    ({"lsp": 0.1, "keep": "tail"}, True, False, True),
]


@pytest.mark.parametrize(("options", "was_cut", "closed", "is_prefix"), FLAGS)
def test_flags(options: dict[str, object], was_cut: bool, closed: bool, is_prefix: bool) -> None:
    (cut,) = truncate([sequence()], **options)
    assert (cut.was_cut, cut.closed, cut.is_prefix) == (was_cut, closed, is_prefix)
    assert cut.num_full_tokens == 14


COLUMNS = [
    ({"column_unit": "tokens"}, {"at": 6}, 6),
    ({"column_unit": "tokens"}, {"at": 600}, 14),
    ({"column_unit": "tokens"}, {"at": 0}, 1),
    ({"column_unit": "tokens", "margin": 0.25}, {"at": 6}, 8),
    ({"column_unit": "fraction"}, {"at": 0.5}, 7),
    ({"column_unit": "fraction", "margin": 0.125}, {"at": 0.5}, 8),
    ({"column_unit": "characters"}, {"at": 40, "at" + TOKENS_SUFFIX: 9}, 9),
    ({"column_unit": "tokens", "lsp": 0.5}, {}, 7),
    ({"column_unit": "tokens", "lsp": 0.5}, {"at": None}, 7),
    ({"column_unit": "tokens", "lsp": 0.5}, {"at": "six"}, 7),
    ({"column_unit": "tokens", "lsp": 0.5}, {"at": float("nan")}, 7),
    ({"column_unit": "tokens", "lsp": 0.5}, {"at": -1}, 7),
    ({"column_unit": "tokens"}, {"at": float("inf")}, 14),
    ({"column_unit": "fraction"}, {"at": float("inf")}, 11),
    ({"column_unit": "tokens", "max_tokens": 4}, {"at": 6}, 4),
]


@pytest.mark.parametrize(("options", "meta", "kept"), COLUMNS)
def test_own_cut_points(options: dict[str, object], meta: dict[str, object], kept: int) -> None:
    config = TruncationConfig.model_validate({"policy": "column", "column": "at", **options})
    (cut,) = truncate([sequence(**meta)], config)
    assert cut.input_ids_T.tolist() == [*P, *C, *A][:kept]
    assert cut.is_prefix


def test_schedule_moves_from_lsp_to_lsp_end() -> None:
    config = TruncationConfig(lsp=0.2, lsp_end=1.0)
    lengths = [len(Cut(config).apply(sequence(), progress)) for progress in (0, 0.5, 1, 2)]
    assert lengths == [2, 8, 14, 14]


@pytest.mark.parametrize(
    ("length", "share", "expected"),
    [
        (100, 0.29, 29),
        (100, 0.57, 57),
        (10, 0.1, 1),
        (3, 0.1, 1),
        (7, 0.5, 3),
        (0, 0.5, 0),
        (9, 1.0, 9),
    ],
)
def test_share_rounds_down_as_decimals_do(length: int, share: float, expected: int) -> None:
    assert share_of(length, share) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lsp": 0}, "lsp"),
        ({"lsp": 1.5}, "lsp"),
        ({"lsp": 50}, "Write 0.5"),
        ({"lsp": "half"}, "lsp"),
        ({"lsp": float("nan")}, "lsp"),
        ({"keep": "left"}, "keep"),
        ({"lps": 0.5}, "Did you mean 'lsp'"),
        ({"policy": "column"}, "column"),
        ({"column": "x"}, "column"),
        ({"of": "cot", "keep": "tail"}, "lead"),
        ({"policy": "derivation", "keep": "tail"}, "keep must be lead with policy derivation"),
        ({"policy": "bridge", "keep": "middle"}, "keep must be lead with policy bridge"),
        ({"policy": "end_of_cot", "lsp": 0.5}, "say nothing with policy end_of_cot"),
        ({"margin": 0.1}, "margin and column_unit go with"),
        ({"column_unit": "characters"}, "margin and column_unit go with"),
    ],
)
def test_wrong_options_are_told(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        truncate([sequence()], **options)


def test_options_change_a_given_config() -> None:
    (cut,) = truncate([sequence()], TruncationConfig(lsp=0.5), max_tokens=4)
    assert len(cut) == 4


def test_a_cut_sequence_is_not_cut_again() -> None:
    halves = truncate([sequence()], lsp=0.5)
    with pytest.raises(ValueError, match="sequence t: must be uncut; got 7 of 14 tokens"):
        truncate(halves, lsp=0.5)


MOMENTS = [
    # options, tokens kept at the start, at the end, at most
    ({"lsp": 0.5}, 7, 7, 7),
    ({"lsp": 0.2, "lsp_end": 1.0}, 2, 14, 14),
    ({"lsp": 1.0, "lsp_end": 0.2}, 14, 2, 14),
    ({"lsp": 0.2, "lsp_end": 1.0, "max_tokens": 5}, 2, 5, 5),
    ({"lsp": 0.5, "lsp_end": 1.0, "keep": "tail"}, 7, 14, 14),
    ({"lsp": 0.3, "lsp_end": 0.3}, 4, 4, 4),
]


@pytest.mark.parametrize(("options", "start", "end", "most"), MOMENTS)
def test_a_schedule_has_a_start_an_end_and_a_longest(
    options: dict[str, object], start: int, end: int, most: int
) -> None:
    cut = Cut(TruncationConfig.model_validate(options))
    assert [len(cut.apply(sequence(), progress)) for progress in (0.0, 1.0)] == [start, end]
    assert cut.longest(sequence()) == most
    assert cut.moves == (start != end)


def test_what_is_scored_late_in_a_schedule_counts_as_scored() -> None:
    answers = SupervisionConfig(sections=("answer",))
    growing = Cut(TruncationConfig(lsp=0.02, lsp_end=1.0), answers)
    assert growing.example(sequence()).num_scored_tokens == 0
    assert growing.ever_scores(sequence())
    assert report_cuts([sequence()], growing).dropped == 0
    assert not Cut(TruncationConfig(lsp=0.5), answers).ever_scores(sequence())


KEPT_DERIVATIONS = [
    # options, the derivation ends behind this many tokens, whether all of them are kept
    ({"lsp": 0.5}, 7, True),
    ({"lsp": 0.5}, 8, False),
    ({"lsp": 0.5, "keep": "tail"}, 7, False),
    ({"lsp": 0.5, "keep": "tail"}, 3, True),
    ({"policy": "end_of_cot"}, 11, True),
    ({"policy": "end_of_cot"}, 12, False),
    ({"policy": "bridge", "lsp": 0.5}, 6, True),
    ({"policy": "bridge", "lsp": 0.5}, 7, False),
    ({"max_tokens": 5}, 6, False),
]


@pytest.mark.parametrize(("options", "end", "kept"), KEPT_DERIVATIONS)
def test_a_derivation_is_kept_with_all_that_stands_before_it(
    options: dict[str, object], end: int, kept: bool
) -> None:
    assert Cut(TruncationConfig.model_validate(options)).keeps_lead(sequence(), end) is kept


SAME = [
    ({"keep": "tail"}, {}),
    ({"keep": "middle", "keep_prompt": False}, {}),
    ({"of": "cot"}, {}),
    ({"policy": "bridge"}, {}),
    ({"lsp": 0.5, "keep_prompt": False}, {"lsp": 0.5}),
    ({"lsp": 0.5, "lsp_end": 0.5}, {"lsp": 0.5}),
    ({"lsp_end": 1.0, "keep": "tail"}, {}),
]


@pytest.mark.parametrize(("options", "plain"), SAME)
def test_settings_that_keep_the_same_tokens_are_one(
    options: dict[str, object], plain: dict[str, object]
) -> None:
    config = TruncationConfig.model_validate(options)
    assert config.effective() == TruncationConfig.model_validate(plain)
    assert truncate([sequence()], config)[0].input_ids_T.tolist() == (
        truncate([sequence()], config.effective())[0].input_ids_T.tolist()
    )


def test_settings_that_keep_other_tokens_stay_apart() -> None:
    settings = (
        {"lsp": 0.5},
        {"lsp": 0.5, "keep": "tail"},
        {"lsp": 0.5, "of": "cot"},
        {"policy": "bridge", "lsp": 0.5},
        {"lsp": 1.0, "lsp_end": 0.5},
        {"policy": "end_of_cot"},
        {"max_tokens": 5},
        {},
    )
    configs = [TruncationConfig.model_validate(each).effective() for each in settings]
    assert len({config.model_dump_json() for config in configs}) == len(settings)


def test_random_mask_is_a_stable_share_of_the_scored() -> None:
    ids = np.arange(4000, dtype=np.int32)
    long = Sequence("t", ids, Span(0, 100), Span(100, 3900), Span(3900, 4000))
    config = SupervisionConfig(sections=("cot",), mask_fraction=0.25)
    first, again = (supervise(long, config).supervised_T for _ in range(2))
    assert (first == again).all()
    assert not first[:100].any()
    assert 0.72 < first.sum() / 3800 < 0.78
    (half,) = truncate([long], lsp=0.5)
    assert (supervise(half, config).supervised_T == first[:2000]).all()
    other = supervise(long, SupervisionConfig(sections=("cot",), mask_fraction=0.25, mask_seed=1))
    assert (other.supervised_T != first).any()


lengths = st.integers(0, 12)
most = st.none() | st.integers(1, 30)
shares = st.floats(0.01, 1)
policies = st.one_of(
    st.fixed_dictionaries({"policy": st.just("end_of_cot"), "max_tokens": most}),
    st.fixed_dictionaries({"policy": st.just("bridge"), "lsp": shares, "max_tokens": most}),
    st.fixed_dictionaries(
        {
            "lsp": shares,
            "keep": st.sampled_from(["lead", "middle", "tail"]),
            "keep_prompt": st.booleans(),
            "max_tokens": most,
        }
    ),
)


@given(st.integers(1, 12), st.integers(1, 12), lengths, policies)
def test_spans_always_partition(
    prompt: int, cot: int, answer: int, options: dict[str, object]
) -> None:
    total = prompt + cot + answer
    full = Sequence(
        trace_id="t",
        input_ids_T=np.arange(total, dtype=np.int32),
        prompt=Span(0, prompt),
        cot=Span(prompt, prompt + cot),
        answer=Span(prompt + cot, total),
        meta={CLOSE_TOKENS: 1},
    )
    (cut,) = truncate([full], **options)
    ids = cut.input_ids_T.tolist()
    assert ids == sorted(set(ids))
    assert 1 <= len(ids) <= total
    assert cut.is_prefix == (ids == list(range(len(ids))))
    assert cut.was_cut == (len(ids) < total)
    for section in SECTIONS:  # every token stays in its section
        span, whole = cut.span(section), full.span(section)
        assert all(whole.start <= token < whole.end for token in ids[span.start : span.end])
