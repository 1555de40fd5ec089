"""Rollouts: what is sampled and scored, how the horizon moves, and that a kill or a rank changes nothing."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen3Config

from leadspan import render
from leadspan.config import RunConfig, SamplingConfig
from leadspan.config_io import validate
from leadspan.errors import ConfigError
from leadspan.flops import generation_flops
from leadspan.generation.local import generate
from leadspan.generation.requests import Request
from leadspan.records import Message, Sequence, Span, Trace
from leadspan.runs import RunFolder
from leadspan.traces.render import Renderer
from leadspan.training.rollout_log import by_decile
from leadspan.training.rollouts import closing_ids
from leadspan.training.run import train
from tests.conftest import build_tiny_tokenizer
from tests.training.launching import (
    assert_equal_weights,
    assert_same_run,
    leave_time_to_be_killed,
    metrics_of,
    start_child,
    torchrun,
    wait_for,
)

END = 1


def write_sums(path: Path, count: int = 30) -> Path:
    """Different sums with chains of thought of different lengths."""
    rows = [
        {
            "id": f"sum-{n}",
            "prompt": f"{n}+{n % 7}?",
            "cot": " ".join(f"{n}+{k}={n + k}." for k in range(1 + n % 5)),
            "answer": str(n + n % 7),
        }
        for n in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def content(student: Path, teacher: Path, traces: Path, **rollout: Any) -> dict[str, Any]:
    return {
        "teacher": {"path": str(teacher), "dtype": "float32"},
        "student": {"path": str(student)},
        "traces": {"path": str(traces), "validation_fraction": 0.2},
        "loss": {"kd_ratio": 1.0},
        "rollout": {"horizon": 0.5, **rollout},
        "training": {
            "steps": 6,
            "batch_size": 4,
            "bf16": False,
            "learning_rate": 3e-3,
            "checkpoint_every_steps": 2,
        },
    }


@pytest.fixture(scope="module")
def on_policy(
    tmp_path_factory: pytest.TempPathFactory, tiny_student: Path, tiny_teacher: Path
) -> dict[str, Any]:
    traces = write_sums(tmp_path_factory.mktemp("traces") / "traces.jsonl")
    return content(tiny_student, tiny_teacher, traces, num_samples=2)


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory, on_policy: dict[str, Any]) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    train(validate(RunConfig, on_policy, "test"), folder)
    return folder


def rollouts_of(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "rollouts.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_the_loss_is_the_teacher_s_over_every_sampled_token(
    whole_run: Path, on_policy: dict[str, Any]
) -> None:
    """Step 1 against a float64 loop over the rollouts that the run folder holds."""
    tokenizer = build_tiny_tokenizer()
    student, teacher = (
        AutoModelForCausalLM.from_pretrained(on_policy[name]["path"]).double().eval()
        for name in ("student", "teacher")
    )
    first = [one for one in rollouts_of(whole_run) if one["step"] == 1]
    rows = map(json.loads, Path(on_policy["traces"]["path"]).read_text().splitlines())
    prompts = {row["id"]: row["prompt"] for row in rows}
    total, count = 0.0, 0
    for rollout in first:
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompts[rollout["prompt_id"]]}], tokenize=False
        )
        # What generation feeds: the prompt, and the marker that opens the thinking where it is ours.
        ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        written = tokenizer(rollout["text"], add_special_tokens=False)["input_ids"]
        assert len(written) == rollout["num_tokens"]
        both = torch.tensor([ids + written])
        with torch.no_grad():
            log_q, log_p = (
                model(both).logits[0, len(ids) - 1 : -1].log_softmax(-1)
                for model in (student, teacher)
            )
        kl = (log_p.exp() * (log_p - log_q)).sum(-1)
        assert rollout["kd_by_decile"] == pytest.approx(by_decile(kl), rel=1e-4)
        assert rollout["entropy"] == pytest.approx(
            float(-(log_q.exp() * log_q).sum(-1).mean()), rel=1e-5
        )
        total, count = total + float(kl.sum()), count + len(written)
    (record,) = (
        m for m in RunFolder(whole_run).read_metrics() if m["step"] == 1 and m["kind"] == "train"
    )
    assert total / count > 0.1
    assert record["loss"] == pytest.approx(total / count, rel=1e-5)
    assert record["tokens_scored"] == record["tokens_sampled"] == count


def test_the_manifest_counts_what_was_sampled(whole_run: Path) -> None:
    manifest = RunFolder(whole_run).manifest
    records = [m for m in RunFolder(whole_run).read_metrics() if m["kind"] == "train"]
    assert manifest["tokens_sampled"] == sum(record["tokens_sampled"] for record in records)
    assert 0 < manifest["rollout_flops"] < manifest["train_flops"] - manifest["teacher_flops"]
    assert 0 < manifest["rollout_seconds"] < manifest["train_seconds"]


def test_a_mixed_step_has_both_sources(on_policy: dict[str, Any], tmp_path: Path) -> None:
    mixed = {**on_policy, "loss": {"kd_ratio": 0.5}, "rollout": {"share": 0.5, "horizon": 4}}
    train(validate(RunConfig, mixed, "test"), tmp_path / "run")
    for record in RunFolder(tmp_path / "run").read_metrics():
        if record["kind"] == "train":
            assert 0 < record["tokens_sampled"] <= 2 * 4
            assert record["tokens_scored"] > record["tokens_sampled"]


def test_a_prefix_stands_in_context_and_is_not_scored(
    on_policy: dict[str, Any], tmp_path: Path, tiny_student: Path
) -> None:
    prefixed = {**on_policy, "rollout": {"horizon": 3, "prefix": 0.5}}
    train(validate(RunConfig, prefixed, "test"), tmp_path / "run")
    train_records = [m for m in RunFolder(tmp_path / "run").read_metrics() if m["kind"] == "train"]
    plain = {**on_policy, "rollout": {"horizon": 3}}
    train(validate(RunConfig, plain, "test"), tmp_path / "plain")
    plain_records = [
        m for m in RunFolder(tmp_path / "plain").read_metrics() if m["kind"] == "train"
    ]
    for found, without in zip(train_records, plain_records, strict=True):
        assert found["tokens_scored"] <= 4 * 3
        assert found["tokens_forwarded"] > without["tokens_forwarded"] + 4


def _train_in_child(keys: dict[str, Any], folder: Path) -> None:
    leave_time_to_be_killed()
    train(validate(RunConfig, keys, "test"), folder)


def kill_after(num_lines: int, keys: dict[str, Any], folder: Path) -> None:
    """Train in a child and kill it once metrics.jsonl has so many lines."""
    child = start_child(_train_in_child, keys, folder)
    wait_for(lambda: len(RunFolder(folder).read_metrics()) >= num_lines, child)
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    assert not RunFolder(folder).is_complete


@pytest.mark.parametrize("kill_after_lines", range(1, 11))
def test_killed_and_resumed_equals_undisturbed_to_the_bit(
    kill_after_lines: int, whole_run: Path, on_policy: dict[str, Any], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    kill_after(kill_after_lines, on_policy, folder)
    train(validate(RunConfig, on_policy, "test"), folder)
    assert metrics_of(folder) == metrics_of(whole_run)
    assert_equal_weights(folder, whole_run)


def refreshed(on_policy: dict[str, Any], every: int, **training: Any) -> dict[str, Any]:
    rollout = {**GROWING, "refresh_every_steps": every}
    return {**on_policy, "rollout": rollout, "training": {**on_policy["training"], **training}}


GROWING = {"horizon": 1.0, "horizon_start": 0.2, "schedule": "linear", "num_samples": 2}


@pytest.fixture(scope="module")
def stale_run(tmp_path_factory: pytest.TempPathFactory, on_policy: dict[str, Any]) -> Path:
    folder = tmp_path_factory.mktemp("stale") / "run"
    train(validate(RunConfig, refreshed(on_policy, 4), "test"), folder)
    return folder


def test_one_writing_serves_several_steps_each_with_its_own_seeds_and_horizon(
    stale_run: Path, on_policy: dict[str, Any], tmp_path: Path
) -> None:
    """With weights that stand still, it makes no difference when a rollout is written."""
    still = {"learning_rate": 1e-12}
    for name, every in (("apart", 1), ("together", 4)):
        keys = refreshed(on_policy, every, **still)
        train(validate(RunConfig, keys, "test"), tmp_path / name)
    apart, together, moving = (
        {(r["step"], r["prompt_id"], r["sample"]): r["text"] for r in rollouts_of(folder)}
        for folder in (tmp_path / "apart", tmp_path / "together", stale_run)
    )
    assert together == apart
    assert {k: v for k, v in moving.items() if k[0] <= 4} == {
        k: v for k, v in apart.items() if k[0] <= 4
    }
    assert moving != apart
    records = [m for m in RunFolder(stale_run).read_metrics() if m["kind"] == "train"]
    assert [record["staleness"] for record in records] == [0, 1, 2, 3, 0, 1]
    assert {(r["step"], r["staleness"]) for r in rollouts_of(stale_run)} == {
        (record["step"], record["staleness"]) for record in records
    }


@pytest.mark.parametrize("kill_after_lines", [3, 5, 6, 9])
def test_killed_between_writings_and_resumed_equals_undisturbed_to_the_bit(
    kill_after_lines: int, stale_run: Path, on_policy: dict[str, Any], tmp_path: Path
) -> None:
    """Checkpoints stand after steps 2 and 4, writings before 1 and 5."""
    keys, folder = refreshed(on_policy, 4), tmp_path / "run"
    kill_after(kill_after_lines, keys, folder)
    train(validate(RunConfig, keys, "test"), folder)
    assert metrics_of(folder) == metrics_of(stale_run)
    assert_equal_weights(folder, stale_run)


def test_two_ranks_write_and_learn_what_one_does(
    whole_run: Path, on_policy: dict[str, Any], tmp_path: Path
) -> None:
    path, folder = tmp_path / "run.yaml", tmp_path / "run"
    path.write_text(json.dumps(on_policy), encoding="utf-8")
    done = torchrun(2, "leadspan", "train", str(path), "--output", str(folder))
    assert done.returncode == 0, done.stderr
    assert [r["text"] for r in rollouts_of(folder)] == [r["text"] for r in rollouts_of(whole_run)]
    assert_same_run(folder, whole_run)


def test_a_rollout_does_not_depend_on_what_is_written_beside_it(tiny_student: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_student).train()
    requests = [Request(str(n), tuple(range(4, 8 + n)), seed=n) for n in range(7)]
    sampling = SamplingConfig(max_new_tokens=12, sampling_temperature=1.0)

    def write(asked: list[Request]) -> dict[str, list[int]]:
        found = generate(model, asked, sampling, [END], batch_size=3, vocab_size=48)
        return {one.request.key: one.token_ids for one in found}

    together = write(requests)
    assert {key: ids for one in requests for key, ids in write([one]).items()} == together
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("num_samples", [1, 2])
def test_generation_flops_against_torch(num_samples: int) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    config = Qwen3Config(
        vocab_size=512,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
    )
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    asked = [
        Request(f"{n}#{sample}", tuple(range(2 + n, 42 + n)), seed=n)
        for n in range(4 // num_samples)
        for sample in range(num_samples)
    ]
    sampling = SamplingConfig(max_new_tokens=24, sampling_temperature=1.0)
    with FlopCounterMode(display=False) as counter:
        found = list(generate(model, asked, sampling, [], batch_size=4))
    new = [len(one.token_ids) for one in found]
    predicted = generation_flops(config, [40] * 4, new, "full", num_samples)
    assert predicted == pytest.approx(counter.get_total_flops(), rel=2e-2)
    apart = generation_flops(config, [40] * 4, new, "full")
    assert (apart > 1.1 * predicted) == (num_samples > 1)


def sequence(prompt: int, cot: int, answer: int, close: int = 0) -> Sequence:
    total = prompt + cot + answer
    return Sequence(
        "s",
        np.arange(total, dtype=np.int32),
        Span(0, prompt),
        Span(prompt, prompt + cot),
        Span(prompt + cot, total),
        meta={"num_close_tokens": close, "num_open_tokens": 0},
    )


def test_the_closing_marker_is_the_one_that_traces_are_rendered_with() -> None:
    tokenizer = build_tiny_tokenizer()
    traces = [Trace("t", (Message("user", "1+1?"),), "1+1=2.", "2")]
    (whole,) = render(traces, tokenizer)
    found = closing_ids(Renderer(tokenizer))
    assert found == (tokenizer.convert_tokens_to_ids("</think>"),)
    assert set(found) <= set(whole.input_ids_T[whole.cot.start : whole.cot.end].tolist())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"loss": {"kd_ratio": 0.5}}, "kd_ratio must be 1 with rollout.share 1"),
        ({"rollout": {"share": 0.5}, "loss": {"kd_ratio": 0.0}}, "kd_ratio must be above 0"),
        ({"teacher": None, "loss": {"kd_ratio": 0.0}}, "asked during training"),
        ({"teacher": {"path": "t", "cache": "c"}}, "asked during training"),
        ({"rollout": {"num_samples": 3}}, r"multiple of rollout.num_samples \(3\)"),
        ({"rollout": {"share": 0.05}}, "= 0"),
        ({"rollout": {"horizon": 0}}, "horizon"),
        ({"rollout": {"schedule": "linear"}}, "horizon_start goes with"),
        ({"rollout": {"horizon": 9, "horizon_start": 0.5, "schedule": "linear"}}, "of the kind"),
        ({"training": {"budget": {"tokens": 100}}}, "must be of flops"),
        (
            {
                "rollout": {"horizon": 1.0, "horizon_start": 0.5, "schedule": "entropy"},
                "traces": {"path": "x", "validation_fraction": 0},
            },
            "validation_fraction above 0",
        ),
    ],
)
def test_what_cannot_work_is_refused(
    change: dict[str, Any], said: str, on_policy: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match=said):
        validate(RunConfig, {**on_policy, **change}, "run.yaml")


def test_a_budget_of_flops_is_spent_on_rollouts_too(
    on_policy: dict[str, Any], whole_run: Path, tmp_path: Path
) -> None:
    flops = 3 * RunFolder(whole_run).manifest["train_flops"]
    training = {k: v for k, v in on_policy["training"].items() if k != "steps"}
    keys = {**on_policy, "training": {**training, "budget": {"flops": flops}}}
    train(validate(RunConfig, keys, "test"), tmp_path / "run")
    spent = RunFolder(tmp_path / "run").manifest["train_flops"]
    # What the random student writes is not as long as the traces, by which the steps are counted.
    assert 0.6 * flops < spent < 1.4 * flops


def test_a_horizon_beyond_the_context_is_refused(on_policy: dict[str, Any], tmp_path: Path) -> None:
    keys = {**on_policy, "rollout": {"horizon": 600}}
    with pytest.raises(ConfigError, match=r"must fit the context of .*512 tokens"):
        train(validate(RunConfig, keys, "test"), tmp_path / "run")
