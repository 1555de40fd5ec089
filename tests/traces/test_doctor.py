"""The doctor finds each thing that goes wrong with base students, templates and lengths."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, Qwen3Config

from leadspan.config import RunConfig
from leadspan.traces.doctor import Finding, examine
from tests.traces.tokenizers_for_tests import CHATML, byte_level


def model_folder(folder: Path, change: Callable[[Any], None] | None = None, **config: Any) -> Path:
    """Tokenizer and config of a model, without weights: the doctor reads none."""
    byte_level().save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = CHATML
    if change:
        change(tokenizer)
    tokenizer.save_pretrained(folder)
    sizes = {"vocab_size": len(tokenizer) + 7, "max_position_embeddings": 512}
    Qwen3Config(**{**sizes, **config}).save_pretrained(folder)
    return folder


def findings(tmp_path: Path, cot: str = "so it is. ", **parts: Any) -> dict[str, Finding]:
    file = tmp_path / "rows.jsonl"
    rows = [
        {"id": f"r{n}", "prompt": f"{n}?", "cot": cot * 5 + str(n), "answer": "a"}
        for n in range(20)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    content = {
        "student": {"path": str(tmp_path / "student")},
        "traces": {"path": str(file)},
        "training": {"steps": 1},
        "loss": {"kd_ratio": 0.5 if "teacher" in parts else 0},
        **parts,
    }
    config = RunConfig.model_validate(content)
    return {finding.check: finding for finding in examine(config, tmp_path / "runs" / "x")}


def test_a_healthy_run_is_ok_throughout(tmp_path: Path) -> None:
    model_folder(tmp_path / "student")
    teacher = model_folder(tmp_path / "teacher", vocab_size=900)
    found = findings(tmp_path, teacher={"path": str(teacher)})
    assert {f.check for f in found.values() if f.level != "ok"} == set()
    assert {"vocabularies", "template's own text", "round trip", "cut", "context length"} <= set(
        found
    )
    assert "900" in found["teacher head"].message


def test_answers_side_by_side_must_fit_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Qwen3-4B, 64 answers of 32,768 tokens: 309 GB of keys and values in bfloat16."""
    monkeypatch.setattr("leadspan.traces.doctor.memory_bytes", lambda device: 80 * 2**30)
    sizes = {"num_hidden_layers": 36, "num_key_value_heads": 8, "head_dim": 128}
    model_folder(tmp_path / "student", **sizes)
    evaluation = {
        "benchmarks": [{"path": "math500"}],
        "sampling": {"max_new_tokens": 32768},
        "dtype": "bfloat16",
    }
    found = findings(tmp_path, evaluation=evaluation)["evaluation memory"]
    assert found.level == "warning"
    assert "need up to 288.0 GiB" in found.message
    assert "evaluation.backend: vllm" in found.mend
    fitting = {**evaluation, "batch_size": 16}
    assert findings(tmp_path, evaluation=fitting)["evaluation memory"].level == "ok"
    served = {**evaluation, "backend": "vllm"}
    assert "evaluation memory" not in findings(tmp_path, evaluation=served)


@pytest.mark.parametrize(
    ("rollout", "contexts", "said"),
    [
        ({"horizon": 64}, (512, 512), {}),
        ({"horizon": 600}, (512, 1024), {"student": "rollout.horizon must fit the context"}),
        ({"horizon": 600}, (1024, 512), {"teacher": "rollout.horizon must fit the context"}),
        ({"horizon": 1}, (8, 512), {"student": "traces.max_tokens must leave out prompts"}),
    ],
    ids=str,
)
def test_rollouts_must_fit_both_models(
    rollout: dict[str, Any], contexts: tuple[int, int], said: dict[str, str], tmp_path: Path
) -> None:
    for name, context in zip(("student", "teacher"), contexts, strict=True):
        model_folder(tmp_path / name, max_position_embeddings=context)
    teacher = {"path": str(tmp_path / "teacher")}
    found = findings(tmp_path, teacher=teacher, loss={"kd_ratio": 1.0}, rollout=rollout)
    for name in ("student", "teacher"):
        finding = found[f"rollouts and {name}"]
        assert finding.level == ("error" if name in said else "ok")
        assert said.get(name, "") in finding.message


def more_tokens(tokenizer: Any) -> None:
    tokenizer.add_tokens(["<other>"])


def test_a_teacher_of_the_family_with_more_tokens_is_ok_and_named(tmp_path: Path) -> None:
    model_folder(tmp_path / "student")
    teacher = model_folder(tmp_path / "teacher", more_tokens)
    found = findings(tmp_path, teacher={"path": str(teacher)})
    assert found["vocabularies"].level == "ok"
    assert "the teacher alone has 1 more ('<other>')" in found["vocabularies"].message
    assert "shared tokens" not in found


@pytest.mark.parametrize(("cot", "level"), [("so it is. ", "ok"), ("so <other> is. ", "warning")])
def test_rows_with_tokens_that_the_teacher_lacks_are_counted(
    cot: str, level: str, tmp_path: Path
) -> None:
    model_folder(tmp_path / "student", more_tokens)
    teacher = model_folder(tmp_path / "teacher")
    found = findings(tmp_path, cot, teacher={"path": str(teacher)})["shared tokens"]
    assert found.level == level
    assert f"{20 if level == 'warning' else 0} of 20 rows" in found.message


def test_another_base_vocabulary_is_an_error_that_names_tokens(tmp_path: Path) -> None:
    model_folder(tmp_path / "student")
    teacher = model_folder(tmp_path / "teacher")
    file = teacher / "tokenizer.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    ids = content["model"]["vocab"]
    ids["a"], ids["b"] = ids["b"], ids["a"]
    file.write_text(json.dumps(content), encoding="utf-8")
    found = findings(tmp_path, teacher={"path": str(teacher)})["vocabularies"]
    assert found.level == "error"
    assert "'a' is" in found.message


def test_base_student_whose_eos_is_not_the_end_of_turn(tmp_path: Path) -> None:
    def base(tokenizer: Any) -> None:
        tokenizer.eos_token = "<|endoftext|>"

    model_folder(tmp_path / "student", base)
    found = findings(tmp_path)
    assert found["end of turn"].level == "warning"
    assert "exported" in found["end of turn"].mend
    assert found["pad"].level == "warning"


def narrow(folder: Path) -> None:
    model_folder(folder, vocab_size=10)


def no_tokenizer(folder: Path) -> None:
    folder.mkdir()
    (folder / "config.json").write_text("{}")


def closing_template(folder: Path) -> None:
    closed = CHATML.replace(
        "assistant\n{% endif %}", "assistant\n<think>\n\n</think>\n\n{% endif %}"
    )
    model_folder(folder, lambda tokenizer: setattr(tokenizer, "chat_template", closed))


def broken_template(folder: Path) -> None:
    model_folder(folder, lambda tokenizer: setattr(tokenizer, "chat_template", "{% if %}"))


def short_context(folder: Path) -> None:
    model_folder(folder, max_position_embeddings=16)


FAULTS = [
    (narrow, "student head", "error"),
    (no_tokenizer, "student tokenizer", "error"),
    (closing_template, "chat template", "error"),
    (broken_template, "chat template", "error"),
    (short_context, "context length", "error"),
]


@pytest.mark.parametrize(("build", "check", "level"), FAULTS, ids=[f[0].__name__ for f in FAULTS])
def test_faults_of_the_student(
    tmp_path: Path, build: Callable[[Path], None], check: str, level: str
) -> None:
    build(tmp_path / "student")
    assert findings(tmp_path)[check].level == level


SETTINGS = [
    ({"truncation": {"lsp": 0.1}, "supervision": {"sections": ["answer"]}}, "cut", "error"),
    ({"traces": {"path": "nowhere.jsonl"}}, "rows", "error"),
    ({"render": {"chat_template": "nowhere.jinja"}}, "chat template", "error"),
    ({"render": {"think_open": "[begin]", "think_close": "[end]"}}, "think markers", "warning"),
]


@pytest.mark.parametrize(("parts", "check", "level"), SETTINGS, ids=[s[1] for s in SETTINGS])
def test_faults_of_the_settings(
    tmp_path: Path, parts: dict[str, Any], check: str, level: str
) -> None:
    model_folder(tmp_path / "student")
    assert findings(tmp_path, **parts)[check].level == level


def test_many_refused_rows_are_worth_a_warning(tmp_path: Path) -> None:
    model_folder(tmp_path / "student")
    file = tmp_path / "many.jsonl"
    good = [json.dumps({"prompt": "p", "cot": f"c{n}", "answer": "a"}) for n in range(9)]
    file.write_text("\n".join([*good, '{"prompt": "p", "cot": ""}']) + "\n", encoding="utf-8")
    found = findings(tmp_path, traces={"path": str(file)})
    assert found["traces"].level == "warning"
    assert "empty_cot 1" in found["traces"].message


def test_template_that_eats_the_cot_is_told_and_harmless(tmp_path: Path) -> None:
    eats = CHATML.replace("m.content", "m.content.split('</think>')[-1]")
    model_folder(tmp_path / "student", lambda t: setattr(t, "chat_template", eats))
    found = findings(tmp_path)
    assert "deletes the CoT" in found["template and CoT"].message
    assert found["round trip"].level == "ok"


def test_cut_points_that_are_none_are_counted(tmp_path: Path) -> None:
    model_folder(tmp_path / "student")
    rows = [
        {"id": f"r{n}", "prompt": f"{n}?", "cot": "so it is. " * 5, "answer": "a", "at": at}
        for n, at in enumerate([5, 9.0, float("nan"), None, -2, "7"])
    ]
    file = tmp_path / "own.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    traces = {"path": str(file), "drop_duplicates": False, "validation_fraction": 0}
    for unit in ("characters", "tokens"):
        truncation = {"policy": "column", "column": "at", "column_unit": unit, "lsp": 0.5}
        found = findings(tmp_path, traces=traces, truncation=truncation)["cut points"]
        assert found.level == "warning"
        assert found.message.startswith(
            "2 of 6 traces have a cut point in at; the others, first r2,"
        )


UNKNOWN = {"model_type": "gpt2", "n_embd": 16, "n_head": 2, "n_layer": 1, "vocab_size": 400}


@pytest.mark.parametrize(
    ("odd", "budget", "level"),
    [
        ("student", {"flops": 1e12}, "error"),
        ("teacher", {"flops": 1e12}, "error"),
        ("student", {"tokens": 1000}, None),
        (None, {"flops": 1e12}, None),
    ],
)
def test_a_budget_of_flops_needs_models_of_known_cost(
    tmp_path: Path, odd: str | None, budget: dict[str, float], level: str | None
) -> None:
    for name in ("student", "teacher"):
        folder = model_folder(tmp_path / name)
        if name == odd:
            (folder / "config.json").write_text(json.dumps(UNKNOWN))
    teacher = {"path": str(tmp_path / "teacher")}
    found = findings(tmp_path, teacher=teacher, training={"budget": budget})
    assert (found["budget"].level if "budget" in found else None) == level
    if level is not None:
        assert f"{tmp_path / str(odd)}: model config: model_type must be" in found["budget"].message


OWN_TEXT = [
    (CHATML, "ok"),
    (CHATML.replace("assistant\n{% endif %}", "helper\n{% endif %}"), "error"),
    (
        CHATML.replace(
            "<|im_end|>\n{%", "{{ '!' if m.role == 'user' and loop.last }}<|im_end|>\n{%"
        ),
        "error",
    ),
    (
        CHATML.replace(
            "{{ m.content }}", "{{ m.content | upper if m.role == 'assistant' else m.content }}"
        ),
        "warning",
    ),
]


@pytest.mark.parametrize(("template", "level"), OWN_TEXT)
def test_rows_are_held_against_the_template_s_own_text(
    tmp_path: Path, template: str, level: str
) -> None:
    model_folder(tmp_path / "student", lambda t: setattr(t, "chat_template", template))
    assert findings(tmp_path)["template's own text"].level == level


def test_two_families_of_markers_are_told(tmp_path: Path) -> None:
    other = CHATML.replace("assistant\n{% endif %}", "assistant\n<seed:think>{% endif %}")
    model_folder(tmp_path / "student", lambda t: setattr(t, "chat_template", other))
    markers = {"think_open": "<think>", "think_close": "</think>"}
    found = findings(tmp_path, render=markers)["think markers"]
    assert found.level == "warning"
    assert "<seed:think>" in found.message


def test_what_is_not_installed_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "trackio", None)
    model_folder(tmp_path / "student")
    found = findings(tmp_path, tracking={"tracker": "trackio"})["needs"]
    assert found.level == "error"
    assert 'pip install "leadspan[track]"' in found.message


@pytest.mark.parametrize("has_units", [True, False])
def test_bfloat16_where_it_is_slow_is_a_warning(
    has_units: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leadspan.traces.doctor.has_bf16_units", lambda device: has_units)
    model_folder(tmp_path / "student")
    asked = findings(tmp_path, training={"steps": 1, "bf16": True})["precision"]
    assert asked.level == ("ok" if has_units else "warning")
    assert "training.bf16 asks for bfloat16" in asked.message
    assert findings(tmp_path)["precision"].level == "ok"
