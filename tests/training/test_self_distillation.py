"""A teacher with a prompt of its own, which the student never reads; and the student as its own teacher."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM
from transformers.models.qwen3.modeling_qwen3 import Qwen3Model

from leadspan.config import RunConfig
from leadspan.config_io import validate
from leadspan.errors import ConfigError
from leadspan.records import Trace
from leadspan.traces.dataset import build_sequences
from leadspan.traces.sources import TEACHER_PROMPT
from leadspan.traces.taught import fill
from leadspan.training.run import train
from tests.conftest import build_tiny_tokenizer
from tests.training.launching import metrics_of
from tests.training.test_rollouts import content, rollouts_of

SECRET = "#"
"""A character that stands in the teacher's prompt alone."""


def write_golds(path: Path) -> Path:
    rows = [
        {
            "id": f"row-{n}",
            "prompt": f"{n}+{n % 7}?",
            "cot": f"{n}+{n % 7}={n + n % 7}.",
            "answer": str(n + n % 7),
            "gold": str(n + n % 7) if n else None,
        }
        for n in range(24)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def keys(tmp_path: Path, tiny_student: Path, tiny_teacher: Path) -> dict[str, Any]:
    made = content(tiny_student, tiny_teacher, write_golds(tmp_path / "traces.jsonl"), horizon=8)
    return {**made, "teacher": {"from": "student", "system_prompt": f"{SECRET}{{gold}}"}}


@contextmanager
def recorded() -> Iterator[list[tuple[bool, list[int]]]]:
    """Every row that a model forwards, and whether it is the student's: trained on, or generated from."""
    rows: list[tuple[bool, list[int]]] = []
    forward = Qwen3Model.forward

    def noting(self: Any, input_ids: Any = None, **kwargs: Any) -> Any:
        is_student = torch.is_grad_enabled() or torch.is_inference_mode_enabled()
        rows.extend((is_student, row) for row in input_ids.tolist())
        return forward(self, input_ids=input_ids, **kwargs)

    Qwen3Model.forward = noting  # type: ignore[method-assign]
    try:
        yield rows
    finally:
        Qwen3Model.forward = forward  # type: ignore[method-assign]


def prompts_of(keys: dict[str, Any]) -> tuple[list[list[int]], list[list[int]]]:
    """The student's prompts and the teacher's, as ids."""
    made = build_sequences(validate(RunConfig, keys, "test"), build_tiny_tokenizer())
    both = [*made.train, *made.validation]
    return (
        [one.input_ids_T[: one.prompt.end].tolist() for one in both],
        [one.meta[TEACHER_PROMPT] for one in both],
    )


def begins_with_one_of(row: list[int], prompts: list[list[int]]) -> bool:
    # Generation reads a prompt without its last token, which is its first input.
    return any(row[: len(prompt) - 1] == prompt[:-1] for prompt in prompts)


@pytest.mark.parametrize("lora", [None, {"rank": 2, "alpha": 4.0}], ids=["copy", "adapter off"])
def test_the_student_teaches_itself_and_never_reads_the_privileged_prompt(
    keys: dict[str, Any], tmp_path: Path, lora: Any
) -> None:
    if lora:
        pytest.importorskip("peft")
        keys["student"] = {**keys["student"], "lora": lora}
    with recorded() as rows:
        run = train(validate(RunConfig, keys, "test"), tmp_path / "run")
    plain, privileged = prompts_of(keys)
    assert not any(begins_with_one_of(prompt, plain) for prompt in privileged)
    teachers = [row for is_student, row in rows if not is_student and len(row) > 2]
    students = [row for is_student, row in rows if is_student and len(row) > 2]
    assert any(begins_with_one_of(row, privileged) for row in teachers)
    assert len(students) > 30
    assert all(begins_with_one_of(row, plain) for row in students[1:])
    assert not any(begins_with_one_of(row, privileged) for row in students)
    first = metrics_of(tmp_path / "run")[0]
    assert first["loss"] == pytest.approx(expected_first_loss(keys, tmp_path / "run"), rel=1e-4)
    assert run.manifest["refused"] == {"nothing_for_teacher_prompt": 1}
    assert run.manifest["teacher_tokens_forwarded"] > run.manifest["tokens_forwarded"]


def expected_first_loss(keys: dict[str, Any], folder: Path) -> float:
    """KL of the start weights behind the privileged prompt against those behind the plain one, in float64."""
    tokenizer = build_tiny_tokenizer()
    model = AutoModelForCausalLM.from_pretrained(keys["student"]["path"]).double().eval()
    lines = Path(keys["traces"]["path"]).read_text(encoding="utf-8").splitlines()
    rows = {row["id"]: row for row in map(json.loads, lines)}
    total, count = 0.0, 0
    for rollout in rollouts_of(folder):
        if rollout["step"] != 1:
            continue
        row = rows[rollout["prompt_id"]]
        written = tokenizer(rollout["text"], add_special_tokens=False)["input_ids"]
        log_probs = []
        for system in ([], [{"role": "system", "content": f"{SECRET}{row['gold']}"}]):
            turns = [*system, {"role": "user", "content": row["prompt"]}]
            text = tokenizer.apply_chat_template(turns, tokenize=False)
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            with torch.no_grad():
                logits = model(torch.tensor([ids + written])).logits[0, len(ids) - 1 : -1]
            log_probs.append(logits.log_softmax(-1))
        log_q, log_p = log_probs
        total += float((log_p.exp() * (log_p - log_q)).sum())
        count += len(written)
    assert total / count > 1e-4
    return total / count


def test_another_teacher_may_have_a_prompt_of_its_own_off_policy_too(
    keys: dict[str, Any], tiny_teacher: Path, tmp_path: Path
) -> None:
    keys["teacher"] = {"path": str(tiny_teacher), "dtype": "float32"}
    keys |= {"rollout": None, "loss": {"kd_ratio": 0.5}}
    plain = train(validate(RunConfig, keys, "test"), tmp_path / "plain")
    keys["teacher"]["system_prompt"] = "{answer}"
    told = train(validate(RunConfig, keys, "test"), tmp_path / "told")
    assert told.manifest["num_train"] == plain.manifest["num_train"]
    assert abs(told.manifest["val_loss"] - plain.manifest["val_loss"]) > 1e-4


def test_the_student_s_sequence_is_as_it_would_be_without(keys: dict[str, Any]) -> None:
    tokenizer = build_tiny_tokenizer()
    with_prompt = build_sequences(validate(RunConfig, keys, "test"), tokenizer)
    plain = build_sequences(
        validate(RunConfig, {**keys, "teacher": {"path": "t"}}, "test"), tokenizer
    )
    ids = {one.trace_id: one.input_ids_T.tolist() for one in plain.train}
    assert len(with_prompt.train) > 10
    for one in with_prompt.train:
        assert one.input_ids_T.tolist() == ids[one.trace_id]
        assert one.meta[TEACHER_PROMPT] != ids[one.trace_id][: one.prompt.end]


def test_a_part_of_the_trace_is_put_in_as_it_is() -> None:
    trace = Trace("a", (), cot="so {gold}", answer="{cot}", golds=("7",))
    assert fill("{gold} {answer} {other}", trace) == "7 {cot} {other}"
    assert fill("{gold}", Trace("b", (), cot="x", answer="y")) is None


@pytest.mark.parametrize(
    ("teacher", "change", "said"),
    [
        ({"from": "student"}, {}, "needs system_prompt"),
        ({"from": "student", "system_prompt": "x", "path": "other"}, {}, "must be the student's"),
        (
            {"path": "t", "cache": "c", "system_prompt": "x"},
            {"rollout": None},
            "needs a live teacher",
        ),
        (
            {"from": "student", "system_prompt": "x"},
            {"supervision": {"sections": ["prompt", "cot"]}},
            "score cot and answer alone",
        ),
    ],
)
def test_what_cannot_work_is_refused(
    teacher: dict[str, Any], change: dict[str, Any], said: str, keys: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match=said):
        validate(RunConfig, {**keys, "teacher": teacher, **change}, "run.yaml")


def test_adapter_off_is_yaml_s_false(keys: dict[str, Any]) -> None:
    teacher = {**keys["teacher"], "adapter": False}
    assert validate(RunConfig, {**keys, "teacher": teacher}, "test").teacher is not None
