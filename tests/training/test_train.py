"""The training loop: equal however it is shared out, killed or resumed."""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel

from leadspan import distill, render, truncate
from leadspan.config import RunConfig, TrainingConfig, TruncationConfig
from leadspan.config_io import read_yaml
from leadspan.errors import ConfigError, DataError, RunError
from leadspan.records import Sequence, Span
from leadspan.runs import RunFolder
from leadspan.traces.cut import Cut
from leadspan.training.checkpoint import find_last
from leadspan.training.data import ExampleSource
from leadspan.training.metering import peak_tflops_of
from leadspan.training.optimizer import compute_lr_factor
from leadspan.training.run import TrainedRun, train
from leadspan.training.trainer import compute_validation_steps
from tests.conftest import build_tiny_tokenizer, build_traces
from tests.training.launching import (
    assert_equal_weights,
    leave_time_to_be_killed,
    metrics_of,
    start_child,
    wait_for,
)


def _sequences(lsp: float = 0.6) -> list[Sequence]:
    return truncate(render(build_traces(40), build_tiny_tokenizer()), lsp=lsp)


def _run(
    folder: Path,
    student: Path,
    teacher: Path,
    sequences: list[Sequence] | None = None,
    **options: Any,
) -> TrainedRun:
    defaults = {"steps": 8, "learning_rate": 3e-3, "bf16": False, "checkpoint_every_steps": 2}
    sequences = sequences or _sequences()
    return distill(
        sequences,
        student=student,
        teacher={"path": str(teacher), "dtype": "float32"},
        output=folder,
        validation=sequences[:6],
        **{**defaults, **options},
    )


@pytest.fixture(scope="module")
def whole_run(
    tmp_path_factory: pytest.TempPathFactory, tiny_student: Path, tiny_teacher: Path
) -> TrainedRun:
    """One run that nothing disturbed."""
    return _run(tmp_path_factory.mktemp("whole") / "run", tiny_student, tiny_teacher)


def test_the_loss_falls_and_the_student_is_an_ordinary_model(whole_run: TrainedRun) -> None:
    losses = [record["loss"] for record in metrics_of(whole_run.path) if record["kind"] == "train"]
    assert losses[-1] < losses[0] - 0.1
    model = AutoModelForCausalLM.from_pretrained(whole_run.student_path)
    tokenizer = AutoTokenizer.from_pretrained(whole_run.student_path)
    text = model.generate(**tokenizer("1+2?", return_tensors="pt"), max_new_tokens=5)
    assert text.shape[1] <= 9
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id


def test_the_manifest_tells_what_the_run_cost(whole_run: TrainedRun) -> None:
    records = [record for record in metrics_of(whole_run.path) if record["kind"] == "train"]
    manifest = whole_run.manifest
    assert manifest["tokens_scored"] == sum(record["tokens_scored"] for record in records)
    assert manifest["tokens_forwarded"] == sum(record["tokens_forwarded"] for record in records)
    assert manifest["teacher_tokens_forwarded"] == manifest["tokens_forwarded"]
    assert 0 < manifest["teacher_flops"] < manifest["train_flops"]
    assert manifest["val_loss"] == min(
        record["val_loss"]
        for record in metrics_of(whole_run.path)
        if record["kind"] == "validation"
    )
    assert 0 < manifest["peak_step_memory_gib"] < manifest["peak_memory_gib"]
    assert manifest["tokens_per_second"] == pytest.approx(
        manifest["tokens_forwarded"] / manifest["train_seconds"]
    )
    assert manifest["mfu"] is None, "a CPU's peak is not known"


def test_mfu_counts_the_work_once_where_layers_are_computed_again(
    tmp_path: Path, tiny_student: Path, tiny_teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leadspan.training.trainer.device_peak", lambda device, bf16: 1e12)
    plain, again = (
        _run(
            tmp_path / str(recomputes),
            tiny_student,
            tiny_teacher,
            gradient_checkpointing=recomputes,
        ).manifest
        for recomputes in (False, True)
    )
    assert again["train_flops"] > plain["train_flops"]
    for manifest in (plain, again):
        found = manifest["mfu"] * 1e12 * manifest["train_seconds"]
        assert found == pytest.approx(plain["train_flops"])


@pytest.mark.parametrize(
    ("card", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989.4),
        ("NVIDIA H100 PCIe", 756.5),
        ("NVIDIA L40S", 362.1),
        ("NVIDIA L40", 181.1),
        ("NVIDIA H200 NVL", 835.5),
        ("NVIDIA GB200", 2500.0),
        ("NVIDIA A100-SXM4-80GB", 311.9),
        ("Some Card", None),
    ],
)
def test_the_peak_of_a_card_is_known_by_its_name(card: str, peak: float | None) -> None:
    assert peak_tflops_of(card) == peak


@pytest.mark.parametrize("micro_batch_tokens", [1, 100])
def test_accumulation_changes_nothing(
    micro_batch_tokens: int,
    whole_run: TrainedRun,
    tmp_path: Path,
    tiny_student: Path,
    tiny_teacher: Path,
) -> None:
    shared_out = _run(
        tmp_path / "run", tiny_student, tiny_teacher, micro_batch_tokens=micro_batch_tokens
    )
    for expected, found in zip(
        metrics_of(whole_run.path), metrics_of(shared_out.path), strict=True
    ):
        assert found.keys() == expected.keys()
        # The first step shows sums in another order; from then on AdamW amplifies the last bits.
        first = expected["kind"] == "train" and expected["step"] == 1
        tolerance = 1e-6 if first else 1e-4
        for key in expected.keys() - {"kind", "grad_norm"}:
            assert found[key] == pytest.approx(expected[key], rel=tolerance), key


def _train_in_child(folder: Path, student: Path, teacher: Path) -> None:
    leave_time_to_be_killed()
    _run(folder, student, teacher)


@pytest.mark.parametrize("kill_after_lines", random.Random(7).sample(range(1, 40), 10))
def test_killed_and_resumed_equals_undisturbed_to_the_bit(
    kill_after_lines: int,
    whole_run: TrainedRun,
    tmp_path: Path,
    tiny_student: Path,
    tiny_teacher: Path,
) -> None:
    folder = tmp_path / "run"
    num_lines = len(metrics_of(whole_run.path))
    target = 1 + kill_after_lines % (num_lines - 1)
    child = start_child(_train_in_child, folder, tiny_student, tiny_teacher)
    wait_for(lambda: len(RunFolder(folder).read_metrics()) >= target, child)
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    assert not RunFolder(folder).is_complete
    resumed = _run(folder, tiny_student, tiny_teacher)
    assert metrics_of(folder) == metrics_of(whole_run.path)
    for key in ("train_loss", "val_loss", "best_step", "tokens_scored", "train_flops"):
        assert resumed.manifest[key] == whole_run.manifest[key]
    assert_equal_weights(folder, whole_run.path)


def test_an_interrupt_leaves_a_checkpoint_and_says_how_to_go_on(
    whole_run: TrainedRun, tmp_path: Path, tiny_student: Path, tiny_teacher: Path
) -> None:
    folder = tmp_path / "run"
    child = start_child(_train_in_child, folder, tiny_student, tiny_teacher)
    wait_for(lambda: len(RunFolder(folder).read_metrics()) >= 3, child)
    os.kill(child.pid, signal.SIGINT)
    child.join()
    last = find_last(folder / "checkpoints")
    assert last is not None
    assert not RunFolder(folder).is_complete
    _run(folder, tiny_student, tiny_teacher)
    assert metrics_of(folder) == metrics_of(whole_run.path)


@pytest.fixture(scope="module")
def stopped_run(
    tmp_path_factory: pytest.TempPathFactory, tiny_student: Path, tiny_teacher: Path
) -> Path:
    """A run that failed in step 8, with checkpoints after steps 4 and 6."""
    folder = tmp_path_factory.mktemp("stopped") / "run"
    append = RunFolder.append_metrics

    def fail_at_step_8(self: RunFolder, record: dict[str, Any]) -> None:
        if record["step"] == 8:
            raise RuntimeError("stopped")
        append(self, record)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(RunFolder, "append_metrics", fail_at_step_8)
        with pytest.raises(RuntimeError, match="stopped"):
            _run(folder, tiny_student, tiny_teacher)
    return folder


@pytest.mark.parametrize(
    ("damaged", "said"),
    [
        ("step-00000006/rank-*", "Looking for the checkpoint before step-00000006"),
        ("step-00000006/manifest.json", "Looking for the checkpoint before step-00000006"),
        ("../metrics.jsonl", "Looking for the checkpoint before step-00000006"),
        ("step-00000004/rank-*", ""),
    ],
)
def test_a_damaged_run_goes_back_and_comes_out_the_same(
    damaged: str,
    said: str,
    stopped_run: Path,
    whole_run: TrainedRun,
    tmp_path: Path,
    tiny_student: Path,
    tiny_teacher: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(stopped_run, folder)
    (path,) = (folder / "checkpoints").glob(damaged)
    content = bytearray(path.read_bytes())
    # Of the metrics, what step 6 added.
    place = content.index(b'"step": 6') if path.suffix == ".jsonl" else len(content) // 2
    content[place] ^= 1
    path.write_bytes(content)
    resumed = _run(folder, tiny_student, tiny_teacher)
    err = capsys.readouterr().err
    assert said in err
    assert ("warning" in err) == bool(said)
    assert metrics_of(folder) == metrics_of(whole_run.path)
    expected = load_file(whole_run.student_path / "model.safetensors")
    for name, weight in load_file(resumed.student_path / "model.safetensors").items():
        assert torch.equal(weight, expected[name]), name


def test_damage_that_no_checkpoint_precedes_is_an_error(
    stopped_run: Path, tmp_path: Path, tiny_student: Path, tiny_teacher: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(stopped_run, folder)
    metrics = folder / "metrics.jsonl"
    before = metrics.read_bytes()
    metrics.write_bytes(before.replace(b'"step": 1,', b'"step": 9,'))
    with pytest.raises(RunError, match=r"metrics\.jsonl: .* No whole checkpoint is left; delete"):
        _run(folder, tiny_student, tiny_teacher)
    metrics.write_bytes(before)
    for path in (folder / "checkpoints").glob("*/rank-*"):
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(RunError, match=r"rank-.* must have .* No whole checkpoint is left; delete"):
        _run(folder, tiny_student, tiny_teacher)


def test_a_complete_run_is_not_run_again(
    whole_run: TrainedRun, tiny_student: Path, tiny_teacher: Path
) -> None:
    before = (whole_run.path / "metrics.jsonl").stat().st_mtime_ns
    again = _run(whole_run.path, tiny_student, tiny_teacher)
    assert (whole_run.path / "metrics.jsonl").stat().st_mtime_ns == before
    assert again.manifest == whole_run.manifest


def test_a_folder_of_another_config_is_refused(
    whole_run: TrainedRun, tiny_student: Path, tiny_teacher: Path
) -> None:
    with pytest.raises(RunError, match=r"training\.learning_rate differ"):
        _run(whole_run.path, tiny_student, tiny_teacher, learning_rate=1e-3)


def test_a_run_on_data_that_changed_is_not_taken_for_this_run(
    tmp_path: Path, tiny_student: Path, tiny_teacher: Path
) -> None:
    student = shutil.copytree(tiny_student, tmp_path / "student")
    _run(tmp_path / "run", student, tiny_teacher)
    with pytest.raises(RunError, match="training sequences and validation sequences changed"):
        _run(tmp_path / "run", student, tiny_teacher, sequences=_sequences()[::-1])
    tensors = load_file(student / "model.safetensors")
    middle = sorted(tensors)[len(tensors) // 2]
    tensors[middle] = tensors[middle] + 1e-4
    save_file(tensors, student / "model.safetensors", {"format": "pt"})
    with pytest.raises(RunError, match="on other content; student changed"):
        _run(tmp_path / "run", student, tiny_teacher)


def test_keys_that_change_no_result_may_change_while_a_run_goes_on(
    tmp_path: Path, tiny_student: Path, tiny_teacher: Path
) -> None:
    first = _run(tmp_path / "run", tiny_student, tiny_teacher)
    again = _run(tmp_path / "run", tiny_student, tiny_teacher, micro_batch_tokens=64)
    assert again.manifest == first.manifest
    kept = read_yaml(tmp_path / "run" / "run.yaml")
    assert kept["training"]["micro_batch_tokens"] == 64


def test_a_run_yaml_from_before_a_key_was_added_is_the_same_run(
    tmp_path: Path, tiny_student: Path, tiny_teacher: Path
) -> None:
    first = _run(tmp_path / "run", tiny_student, tiny_teacher)
    content = read_yaml(tmp_path / "run" / "run.yaml")
    del content["training"]["warmup_fraction"]
    (tmp_path / "run" / "run.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    assert _run(tmp_path / "run", tiny_student, tiny_teacher).manifest == first.manifest


def test_a_schedule_reaches_its_end_in_the_last_step() -> None:
    ids = np.arange(100, dtype=np.int32)
    whole = Sequence("t", ids, Span(0, 5), Span(5, 90), Span(90, 100))
    source = ExampleSource(Cut(TruncationConfig(lsp=0.2, lsp_end=1.0)), [whole])
    for num_steps in (2, 3, 10):
        lengths = [len(source.at_step(n, num_steps, [0])[0].sequence) for n in range(num_steps)]
        assert (lengths[0], lengths[-1]) == (20, 100)


def test_plain_fine_tuning_needs_no_teacher(tmp_path: Path, tiny_student: Path) -> None:
    run = distill(
        _sequences(),
        student=tiny_student,
        output=tmp_path / "run",
        loss={"kd_ratio": 0},
        steps=2,
        bf16=False,
    )
    assert run.manifest["teacher_flops"] == 0
    assert run.manifest["val_loss"] is None
    with pytest.raises(ConfigError, match="teacher is required"):
        distill(_sequences(), student=tiny_student, output=tmp_path / "other", steps=2)


def test_nothing_left_to_score_is_an_error(
    tmp_path: Path, tiny_student: Path, tiny_teacher: Path
) -> None:
    with pytest.raises(DataError, match="nothing is left to train on"):
        distill(
            _sequences(lsp=0.4),
            student=tiny_student,
            teacher=tiny_teacher,
            output=tmp_path / "run",
            sections=["answer"],
            steps=2,
        )


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_rows(
    tmp_path: Path, tiny_student: Path, tiny_teacher: Path
) -> None:
    with pytest.raises(RunError, match=r"(its rows are sum-|validation loss is)"):
        _run(tmp_path / "run", tiny_student, tiny_teacher, learning_rate=1e30, steps=20)


def test_a_full_disk_is_one_clear_error(
    whole_run: TrainedRun, tmp_path: Path, tiny_student: Path, tiny_teacher: Path
) -> None:
    full = tmp_path / "run"
    full.mkdir()
    shutil.copy(whole_run.path / "run.yaml", full)
    (full / "metrics.jsonl").symlink_to("/dev/full")
    with pytest.raises(RunError, match=r"metrics\.jsonl: cannot be written \(No space left"):
        _run(full, tiny_student, tiny_teacher)
    assert not (full / "manifest.json").exists()


@pytest.mark.parametrize("schedule", ["cosine", "one_cycle", "linear", "constant"])
def test_learning_rate_warms_up_and_stays_within_its_peak(schedule: str) -> None:
    training = TrainingConfig(steps=50, lr_schedule=schedule)  # type: ignore[arg-type]
    factors = [compute_lr_factor(step, 50, training) for step in range(50)]
    assert all(0 < factor <= 1 for factor in factors)
    assert factors[0] < factors[3] < max(factors[4:6]) == 1.0
    assert factors[-1] == 1.0 if schedule == "constant" else factors[-1] < 0.05


def test_one_cycle_is_torchs() -> None:
    training = TrainingConfig(steps=40, lr_schedule="one_cycle", warmup_fraction=0.13)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=1.0, total_steps=40, pct_start=0.13
    )
    theirs = []
    for _ in range(40):
        theirs.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        cycle.step()
    ours = [compute_lr_factor(step, 40, training) for step in range(40)]
    assert ours == pytest.approx(theirs)


def test_validation_comes_at_each_share_of_an_epoch_and_at_the_end() -> None:
    assert compute_validation_steps(10, 2.5) == {2, 5, 8, 10}
    assert compute_validation_steps(7, 0.4) == set(range(1, 8))
    assert compute_validation_steps(3, 100.0) == {3}


def test_metrics_are_json_without_nan(whole_run: TrainedRun) -> None:
    for line in (whole_run.path / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        assert all(math.isfinite(value) for value in record.values() if isinstance(value, float))


def test_a_student_trained_without_a_chat_template_is_exported_without_one(
    tmp_path: Path, tiny_student: Path
) -> None:
    rows = [
        {"id": t.trace_id, "prompt": t.prompt, "cot": t.cot, "answer": t.answer}
        for t in build_traces(8)
    ]
    path = tmp_path / "traces.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    content = {
        "student": {"path": str(tiny_student)},
        "traces": {"path": str(path), "validation_fraction": 0.0},
        "render": {"chat_template": "plain"},
        "loss": {"kd_ratio": 0.0},
        "training": {"steps": 1, "bf16": False},
    }
    run = train(RunConfig.model_validate(content), tmp_path / "run")
    assert AutoTokenizer.from_pretrained(run.student_path).chat_template is None


def test_a_budget_of_flops_that_cannot_be_counted_ends_before_the_first_step(
    tmp_path: Path,
) -> None:
    student = tmp_path / "gpt2"
    tokenizer = build_tiny_tokenizer()
    tokenizer.save_pretrained(student)
    sizes = {"n_embd": 16, "n_layer": 1, "n_head": 2, "vocab_size": len(tokenizer)}
    GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=1, eos_token_id=1)).save_pretrained(student)
    options = {
        "student": {"path": str(student), "dtype": "float32"},
        "loss": {"kd_ratio": 0},
        "bf16": False,
    }
    with pytest.raises(ConfigError, match=r"training.budget.flops must be .*got 'gpt2'"):
        distill(_sequences(), output=tmp_path / "flops", budget={"flops": 1e9}, **options)
    assert not (tmp_path / "flops" / "metrics.jsonl").exists()
    spent = distill(_sequences(), output=tmp_path / "tokens", budget={"tokens": 500}, **options)
    assert spent.manifest["train_flops"] is None
