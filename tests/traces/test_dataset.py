"""Length filter, sample, split, cut points and the cache: stable, counted, found again by content."""

from __future__ import annotations

import copy
import json
import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leadspan.config import RunConfig, SupervisionConfig, TruncationConfig
from leadspan.errors import DataError
from leadspan.study.run import annotate_derivation
from leadspan.traces import dataset
from leadspan.traces.cut import DERIVATION_TOKENS, TOKENS_SUFFIX, Cut, report_cuts
from leadspan.traces.dataset import SequenceSet, build_sequences
from tests.traces.tokenizers_for_tests import CHATML, byte_level


def write_rows(path: Path, count: int) -> Path:
    rows = [
        {
            "id": f"r{n}",
            "prompt": f"{n}?",
            "cot": f"so {n}. " * (n % 7 + 1),
            "answer": f"{n}",
            "at": 4,
        }
        for n in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., RunConfig]:
    def build(rows: int = 60, truncation: dict[str, Any] | None = None, **traces: Any) -> RunConfig:
        return RunConfig.model_validate(
            {
                "student": {"path": "none"},
                "traces": {"path": str(write_rows(tmp_path / "rows.jsonl", rows)), **traces},
                "truncation": truncation or {},
                "loss": {"kd_ratio": 0},
                "training": {"steps": 1},
            }
        )

    return build


def ids(made: SequenceSet) -> tuple[list[str], list[str]]:
    return [s.trace_id for s in made.train], [s.trace_id for s in made.validation]


def test_split_does_not_change_when_rows_are_appended(run: Callable[..., RunConfig]) -> None:
    before = ids(build_sequences(run(60, validation_fraction=0.3), byte_level()))
    after = ids(build_sequences(run(90, validation_fraction=0.3), byte_level()))
    assert 5 < len(before[1]) < 30
    assert not set(before[0]) & set(before[1])
    assert [name for name in after[0] if int(name[1:]) < 60] == before[0]
    assert [name for name in after[1] if int(name[1:]) < 60] == before[1]


def test_seed_changes_the_split(run: Callable[..., RunConfig]) -> None:
    one, two = (
        ids(build_sequences(run(validation_fraction=0.3, seed=seed), byte_level()))
        for seed in (1, 2)
    )
    assert one[1] != two[1]


def test_sample_fraction_does_not_change_when_rows_are_appended(
    run: Callable[..., RunConfig],
) -> None:
    before = build_sequences(run(60, sample_fraction=0.5, validation_fraction=0), byte_level())
    after = build_sequences(run(90, sample_fraction=0.5, validation_fraction=0), byte_level())
    kept = [name for name in ids(after)[0] if int(name[1:]) < 60]
    assert kept == ids(before)[0]
    assert 15 < len(kept) < 45
    assert before.refused["not_sampled"] == 60 - len(kept)


def test_sample_is_exact_ordered_and_loses_only_to_new_rows(run: Callable[..., RunConfig]) -> None:
    before = ids(build_sequences(run(60, sample=20, validation_fraction=0), byte_level()))[0]
    after = ids(build_sequences(run(70, sample=20, validation_fraction=0), byte_level()))[0]
    assert len(before) == len(after) == 20
    assert before == sorted(before, key=lambda name: int(name[1:]))
    old = [name for name in after if int(name[1:]) < 60]
    assert set(old) <= set(before)


def test_max_tokens_counts_what_it_removes(run: Callable[..., RunConfig]) -> None:
    everything = build_sequences(run(validation_fraction=0), byte_level())
    limit = int(np.median([len(s) for s in everything.train]))
    made = build_sequences(run(validation_fraction=0, max_tokens=limit), byte_level())
    assert all(len(s) <= limit for s in made.train)
    assert made.refused["over_max_tokens"] == 60 - len(made.train) > 0


def test_nothing_usable_says_why(run: Callable[..., RunConfig]) -> None:
    with pytest.raises(
        DataError, match=r"all rows were refused: over_max_tokens 60 \(first at r0\)"
    ):
        build_sequences(run(max_tokens=3), byte_level())


def same(one: SequenceSet, two: SequenceSet) -> bool:
    def flat(made: SequenceSet) -> list[Any]:
        return [
            (s.trace_id, s.input_ids_T.tolist(), s.prompt, s.cot, s.answer, s.closed, dict(s.meta))
            for s in (*made.train, *made.validation)
        ]

    return flat(one) == flat(two) and one.refused == two.refused and one.notes == two.notes


def test_the_second_call_renders_nothing(
    run: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = run()
    first = build_sequences(config, byte_level())
    monkeypatch.setattr(dataset, "iter_sequences", None)  # would raise if it were called
    assert same(first, build_sequences(config, byte_level()))


CHANGES: dict[str, Callable[[RunConfig, Any], Any]] = {
    "a filter": lambda c, t: (set_in(c, "traces", only_closed=True), t),
    "markers": lambda c, t: (set_in(c, "render", think_open="<t>"), t),
    "system prompt": lambda c, t: (set_in(c, "render", system_prompt="drop"), t),
    "template": lambda c, t: (c, with_template(t)),
    "tokenizer": lambda c, t: (c, with_token(t)),
    "column": lambda c, t: (
        set_in(c, "truncation", policy="column", column="at", column_unit="characters"),
        t,
    ),
}


def set_in(config: RunConfig, part: str, **fields: Any) -> RunConfig:
    content = config.model_dump()
    content[part].update(fields)
    return RunConfig.model_validate(content)


def with_template(tokenizer: Any) -> Any:
    changed = copy.copy(tokenizer)
    changed.chat_template = CHATML
    return changed


def with_token(tokenizer: Any) -> Any:
    changed = copy.deepcopy(tokenizer)
    changed.add_tokens(["so"])
    return changed


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_whatever_makes_other_tokens_is_part_of_the_key(
    run: Callable[..., RunConfig], change: Callable[[RunConfig, Any], Any]
) -> None:
    def folder(config: RunConfig, tokenizer: Any) -> Path | None:
        return dataset.cache_folder(config, tokenizer, tokenizer.chat_template)

    config = run()
    before, again = folder(config, byte_level()), folder(config, byte_level())
    assert before == again
    assert folder(*change(config, byte_level())) != before


def test_changed_rows_are_rendered_again(run: Callable[..., RunConfig], tmp_path: Path) -> None:
    first = build_sequences(run(60), byte_level())
    assert len(first.train) + len(first.validation) == 60
    second = build_sequences(run(61), byte_level())
    assert len(second.train) + len(second.validation) == 61


def test_a_damaged_or_unwritable_cache_is_no_cache(
    run: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = run()
    first = build_sequences(config, byte_level())
    (manifest,) = (tmp_path / "cache").rglob("manifest.json")
    manifest.unlink()
    assert same(first, build_sequences(config, byte_level()))
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LEADSPAN_CACHE", str(tmp_path / "file"))
    assert same(first, build_sequences(config, byte_level()))


def test_cut_points_in_characters_become_tokens(run: Callable[..., RunConfig]) -> None:
    truncation = {"policy": "column", "column": "at", "column_unit": "characters"}
    config = run(truncation=truncation, validation_fraction=0)
    made = build_sequences(config, byte_level())
    cut = Cut(config.truncation)
    decode = byte_level().decode
    for sequence in made.train[:10]:
        kept = cut.apply(sequence)
        assert len(kept) == sequence.meta["at" + TOKENS_SUFFIX]
        text = decode(kept.input_ids_T[kept.cot.start + 1 :])
        assert text.startswith("so ")
        assert len(text) >= 4


@pytest.mark.parametrize(
    ("point", "kept"),
    [(float("nan"), 0.5), (-3, 0.5), ("9", 0.5), (None, 0.5), (float("inf"), "cot"), (1e9, "cot")],
    ids=str,
)
def test_odd_cut_points_in_characters(
    run: Callable[..., RunConfig], point: object, kept: float | str
) -> None:
    """What is no place falls back on lsp; a place past the end is the end of the CoT."""
    truncation = {"policy": "column", "column": "mine", "column_unit": "characters", "lsp": 0.5}
    config = run(truncation=truncation, validation_fraction=0)
    made = build_sequences(config, byte_level(), annotate=lambda trace: {"mine": point})
    for sequence in made.train:
        cut = Cut(config.truncation).apply(sequence)
        close = sequence.cot.end - sequence.meta["num_close_tokens"]
        assert len(cut) == (close if kept == "cot" else len(sequence) // 2)


def test_annotate_adds_cut_points_and_is_not_cached(
    run: Callable[..., RunConfig], tmp_path: Path
) -> None:
    config = run(truncation={"policy": "column", "column": "mine", "column_unit": "fraction"})
    made = build_sequences(config, byte_level(), annotate=lambda trace: {"mine": 0.5})
    assert all(sequence.meta["mine"] == 0.5 for sequence in made.train)
    assert not (tmp_path / "cache").exists()


def test_derivations_are_cached_apart_from_rows_without_them(
    run: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = run(truncation={"policy": "derivation"})
    row = {"prompt": "2+5?", "cot": "2+5 = 7. so 7.", "answer": "7", "gold": "7"}
    rows = [json.dumps({**row, "id": f"r{n}"}) + "\n" for n in range(9)]
    Path(config.traces.path).write_text("".join(rows))
    first = build_sequences(config, byte_level(), annotate_derivation)
    assert all(DERIVATION_TOKENS in sequence.meta for sequence in first.train)
    span = config.model_copy(update={"truncation": TruncationConfig()})
    plain = build_sequences(span, byte_level())
    assert not any(DERIVATION_TOKENS in sequence.meta for sequence in plain.train)
    monkeypatch.setattr(dataset, "iter_sequences", None)
    assert same(first, build_sequences(config, byte_level(), annotate_derivation))


@pytest.mark.parametrize(
    ("traces", "is_kept"),
    [
        ({"path": "me/traces"}, False),
        ({"path": "me/traces", "revision": "a" * 40}, True),
        ({"decontaminate": [{"path": "aime24"}]}, False),
        ({"decontaminate": [{"path": "aime24", "revision": "a" * 40}]}, True),
    ],
)
def test_a_set_of_the_hub_is_cached_at_its_revision(
    run: Callable[..., RunConfig], traces: dict[str, Any], is_kept: bool
) -> None:
    folder = dataset.cache_folder(set_in(run(), "traces", **traces), byte_level(), [])
    assert (folder is not None) == is_kept


def test_report_counts_what_survives(run: Callable[..., RunConfig]) -> None:
    sequences = build_sequences(run(validation_fraction=0), byte_level()).train
    for sequence in sequences[:2]:
        sequence.meta[DERIVATION_TOKENS] = sequence.cot.start + 2  # type: ignore[index]
    full = report_cuts(sequences, Cut(TruncationConfig()))
    assert full.sequences == 60
    assert full.kept_tokens == full.full_tokens == sum(map(len, sequences))
    assert (full.close_marker_kept, full.answer_kept, full.derivation_kept) == (1.0, 1.0, 1.0)
    assert full.scored_tokens["prompt"] == 0
    assert full.scored_tokens["cot"] == sum(len(s.cot) for s in sequences)
    half = report_cuts(sequences, Cut(TruncationConfig(lsp=0.5)))
    assert half.answer_kept == 0.0
    assert half.kept_tokens == sum(len(s) // 2 for s in sequences)
    only_answers = SupervisionConfig(sections=("answer",))
    none = report_cuts(sequences, Cut(TruncationConfig(lsp=0.5), only_answers))
    assert (none.dropped, none.kept_tokens) == (60, 0)


def _build(config: RunConfig, cache: Path, rendered: Any) -> None:
    os.environ["LEADSPAN_CACHE"] = str(cache)
    render = dataset.iter_sequences

    def slowly(*arguments: Any) -> Any:
        with rendered.get_lock():
            rendered.value += 1
        time.sleep(0.5)  # the others ask while this one still renders
        return render(*arguments)

    dataset.iter_sequences = slowly  # type: ignore[assignment]
    assert len(build_sequences(config, byte_level()).train) > 0


def test_of_several_processes_one_renders(run: Callable[..., RunConfig], tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    rendered = context.Value("i", 0)
    arguments = (run(), tmp_path / "cache", rendered)
    children = [context.Process(target=_build, args=arguments) for _ in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join(120)
    assert [child.exitcode for child in children] == [0, 0, 0]
    assert rendered.value == 1
