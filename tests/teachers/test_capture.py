"""Capture: the cached teacher is the live one, for every leading cut, killed or not, shared or not."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from leadspan import render, supervise, truncate
from leadspan.cli import train
from leadspan.config import LossConfig, RunConfig, SupervisionConfig, TeacherConfig
from leadspan.config_io import load_run_config
from leadspan.errors import CacheError, ConfigError, LeadspanError
from leadspan.losses.fused import fused_loss
from leadspan.losses.heads import DenseTeacher, Head, SparseTeacher
from leadspan.parallel import Ranks
from leadspan.records import Message, Sequence, Trace
from leadspan.teachers.cache import CachedTeacher, TeacherCache, load_cached_teacher
from leadspan.teachers.cache_format import shard_paths
from leadspan.teachers.capture import (
    CaptureReport,
    CaptureSettings,
    capture,
    capture_run,
    sequences_to_capture,
)
from leadspan.teachers.capture_live import LocalBackend, build_identity
from leadspan.teachers.check import compare, verify
from leadspan.teachers.live import LiveTeacher
from leadspan.traces.batches import Batch, collate
from tests.conftest import CHARACTERS, SPECIAL, build_tiny_tokenizer

VOCAB = len(SPECIAL) + len(CHARACTERS)
ALONE = Ranks(0, 1, torch.device("cpu"))
app = typer.Typer()
train.register(app)


def full_sequences(count: int = 24) -> list[Sequence]:
    return render(distinct_traces(count), build_tiny_tokenizer())


def distinct_traces(count: int) -> list[Trace]:
    return [
        Trace(
            trace_id=f"count-{number}",
            messages=(Message("user", f"{number}+1?"),),
            cot="".join(f"{number}+{k}={number + k}. " for k in range(1 + number % 5)) + "so",
            answer=f"{number + 1}",
        )
        for number in range(count)
    ]


def local_backend(teacher: Path, **options: Any) -> LocalBackend:
    config = TeacherConfig(path=str(teacher), dtype="float32")
    options = {"mode": "topk", "k": VOCAB, "logprobs": "fp16", **options}
    batch_tokens = options.pop("batch_tokens", 400)
    identity = build_identity(config, build_tiny_tokenizer(), **options)
    model = AutoModelForCausalLM.from_pretrained(teacher).eval()
    return LocalBackend(model, identity, ALONE.device, batch_tokens)


def capture_here(teacher: Path, output: Path, **options: Any) -> CaptureReport:
    shard_mib = options.pop("shard_mib", 256)
    return capture(full_sequences(), local_backend(teacher, **options), output, ALONE, shard_mib)


def batch_of(sequences: list[Sequence], *sections: Any) -> Batch:
    config = SupervisionConfig(sections=sections or ("cot", "answer"))
    return collate([supervise(sequence, config) for sequence in sequences])


@pytest.fixture(scope="module")
def exact_cache(tmp_path_factory: pytest.TempPathFactory, tiny_teacher: Path) -> Path:
    """All ids kept in fp16, in several shards."""
    folder = tmp_path_factory.mktemp("exact") / "cache"
    report = capture_here(tiny_teacher, folder, shard_mib=0.04)
    assert report.num_captured_now == report.num_sequences == 24
    assert len(shard_paths(folder)) > 2
    assert all(path.stat().st_size < 0.04 * 2**20 + 2048 for path in shard_paths(folder))
    return folder


@pytest.fixture(scope="module")
def live(tiny_teacher: Path) -> LiveTeacher:
    return LiveTeacher(AutoModelForCausalLM.from_pretrained(tiny_teacher).eval(), bf16=False)


def log_probs(teacher: DenseTeacher | SparseTeacher) -> torch.Tensor:
    if isinstance(teacher, DenseTeacher):
        logits = teacher.hidden_NH.float() @ teacher.head.weight_VH[:VOCAB].float().T
        return logits.log_softmax(1).detach()
    whole = torch.full((len(teacher), VOCAB), -torch.inf)
    return whole.scatter(1, teacher.topk_ids_NK, teacher.topk_logprobs_NK)


@pytest.mark.parametrize("lsp", [0.2, 0.5, 1.0])
@pytest.mark.parametrize("sections", [("cot",), ("prompt", "cot", "answer"), ("answer",)])
def test_one_capture_serves_every_lead_and_section(
    exact_cache: Path, live: LiveTeacher, lsp: float, sections: Any
) -> None:
    cut = [
        s for s in truncate(full_sequences(), lsp=lsp) if len(s.answer) or sections[0] != "answer"
    ]
    batch = batch_of(cut, *sections)
    theirs, mine = live.rows(batch), CachedTeacher(TeacherCache(exact_cache)).rows(batch)
    assert len(mine) == len(batch.labels_N)
    # fp16 log-probabilities carry 11 bits, and those above log(1e-6) are below 14.
    near = log_probs(theirs) > np.log(1e-6)
    assert near.float().mean() > 0.3 or not len(mine)
    torch.testing.assert_close(log_probs(mine)[near], log_probs(theirs)[near], rtol=0, atol=0.01)


def test_the_loss_and_gradient_are_those_of_the_live_teacher(
    exact_cache: Path, live: LiveTeacher
) -> None:
    batch = batch_of(truncate(full_sequences(), lsp=0.5))
    hidden = torch.randn(len(batch.labels_N), 16, generator=torch.Generator().manual_seed(0))
    head = Head(torch.randn(VOCAB, 16, generator=torch.Generator().manual_seed(1)))
    results = []
    for source in (live, CachedTeacher(TeacherCache(exact_cache))):
        rows = hidden.clone().requires_grad_()
        got = fused_loss(rows, head, batch.labels_N, source.rows(batch), LossConfig(), VOCAB)
        results.append((got.kd_N, torch.autograd.grad(got.total, rows)[0]))
    assert results[0][0].min() > 0.1
    torch.testing.assert_close(results[1][0], results[0][0], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(results[1][1], results[0][1], rtol=1e-3, atol=1e-3)


def test_hidden_states_give_the_dense_distribution(
    tmp_path: Path, tiny_teacher: Path, live: LiveTeacher
) -> None:
    capture_here(tiny_teacher, tmp_path / "cache", mode="hidden")
    batch = batch_of(truncate(full_sequences(), lsp=0.5))
    theirs, mine = live.rows(batch), CachedTeacher(TeacherCache(tmp_path / "cache")).rows(batch)
    assert isinstance(mine, DenseTeacher)
    # The only difference is the rounding of hidden states to bf16, 8 bits.
    torch.testing.assert_close(mine.hidden_NH.float(), theirs.hidden_NH, rtol=2**-8, atol=1e-5)
    assert torch.equal(mine.head.weight_VH, theirs.head.weight_VH[:VOCAB])


def test_padding_and_batching_change_nothing(tmp_path: Path, tiny_teacher: Path) -> None:
    capture_here(tiny_teacher, tmp_path / "alone", batch_tokens=1)
    capture_here(tiny_teacher, tmp_path / "together", batch_tokens=4000)
    alone, together = TeacherCache(tmp_path / "alone"), TeacherCache(tmp_path / "together")
    for sequence in full_sequences():
        tokens, positions = sequence.input_ids_T, np.arange(len(sequence) - 1)
        a, b = alone.rows(tokens, positions), together.rows(tokens, positions)
        torch.testing.assert_close(log_probs(a), log_probs(b), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("keep", ["middle", "tail"])
def test_slicing_the_full_capture_for_other_cuts_is_refused(exact_cache: Path, keep: Any) -> None:
    source = CachedTeacher(TeacherCache(exact_cache))
    cut = truncate(full_sequences(), lsp=0.5, keep=keep)
    assert not any(sequence.is_prefix for sequence in cut)
    for sequence in cut:
        with pytest.raises(CacheError, match="must be a prefix of a captured one"):
            source.rows(batch_of([sequence]))


def test_other_cuts_are_captured_apart(
    tmp_path: Path, tiny_teacher: Path, live: LiveTeacher
) -> None:
    config = RunConfig.model_validate(
        {
            "teacher": {"path": str(tiny_teacher)},
            "student": {"path": str(tiny_teacher)},
            "traces": {"path": "traces.jsonl"},
            "truncation": {"lsp": 0.5, "keep": "tail"},
            "training": {"steps": 1},
        }
    )
    wanted = list(sequences_to_capture(config, full_sequences()))
    capture(wanted, local_backend(tiny_teacher), tmp_path / "cache", ALONE)
    batch = batch_of(truncate(full_sequences(), lsp=0.5, keep="tail"))
    mine = CachedTeacher(TeacherCache(tmp_path / "cache")).rows(batch)
    torch.testing.assert_close(
        log_probs(mine).exp(), log_probs(live.rows(batch)).exp(), rtol=0, atol=2e-3
    )


def test_an_empty_batch_has_no_rows(exact_cache: Path) -> None:
    assert len(CachedTeacher(TeacherCache(exact_cache)).rows(collate([]))) == 0


def test_more_sequences_join_a_complete_cache(tmp_path: Path, tiny_teacher: Path) -> None:
    backend, sequences = local_backend(tiny_teacher), full_sequences()
    first = capture(sequences[:10] + sequences[:2], backend, tmp_path, ALONE)
    assert (first.num_captured_now, first.num_duplicates) == (10, 2)
    second = capture(sequences, backend, tmp_path, ALONE)
    assert (second.num_captured_now, second.num_sequences) == (14, 24)
    assert verify(TeacherCache(tmp_path)) == []


def test_a_folder_of_another_capture_is_refused(exact_cache: Path, tiny_student: Path) -> None:
    with pytest.raises(CacheError, match=r"belongs to another capture: teacher is .*; weights is"):
        capture_here(tiny_student, exact_cache)
    same = Path(TeacherCache(exact_cache).identity.teacher)
    with pytest.raises(CacheError, match=r"belongs to another capture: k is \d+, not 4\."):
        capture_here(same, exact_cache, k=4)


class Dying(LocalBackend):
    """Kills its own process after some sequences, as the kernel does when memory runs out."""

    deaths_after = 10

    def capture(self, sequences: Any) -> Iterator[Any]:
        for number, captured in enumerate(super().capture(sequences)):
            if number == self.deaths_after:
                os.kill(os.getpid(), signal.SIGKILL)
            yield captured


def _capture_and_die(teacher: Path, output: Path) -> None:
    backend = local_backend(teacher)
    backend.__class__ = Dying
    capture(full_sequences(), backend, output, ALONE, shard_mib=0.02)


def test_a_killed_capture_goes_on_and_loses_one_shard_at_most(
    tmp_path: Path, tiny_teacher: Path, exact_cache: Path
) -> None:
    output = tmp_path / "cache"
    process = multiprocessing.get_context("fork").Process(
        target=_capture_and_die, args=(tiny_teacher, output)
    )
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    with pytest.raises(CacheError, match="the capture was not finished"):
        TeacherCache(output)
    num_saved = len(shard_paths(output))
    assert num_saved > 1
    (output / ".shard-0.safetensors.1.tmp").write_bytes(b"half")
    report = capture_here(tiny_teacher, output, shard_mib=0.02)
    # Ten were done; those of whole shards are not run again, at most one shard's worth is.
    assert 24 - 10 <= report.num_captured_now <= 24 - 10 + 3
    assert report.num_sequences == 24
    assert not list(output.glob(".*.tmp"))
    killed, whole = TeacherCache(output), TeacherCache(exact_cache)
    assert verify(killed) == []
    for sequence in full_sequences():
        positions = np.arange(len(sequence) - 1)
        mine = killed.rows(sequence.input_ids_T, positions, sequence.trace_id)
        theirs = whole.rows(sequence.input_ids_T, positions, sequence.trace_id)
        torch.testing.assert_close(log_probs(mine), log_probs(theirs), rtol=2e-3, atol=2e-3)


@pytest.fixture(scope="module")
def run_yaml(
    tmp_path_factory: pytest.TempPathFactory, tiny_student: Path, tiny_teacher: Path
) -> Path:
    """A run over a dozen traces."""
    folder = tmp_path_factory.mktemp("run")
    rows = [
        {"id": t.trace_id, "prompt": t.prompt, "cot": t.cot, "answer": t.answer}
        for t in distinct_traces(12)
    ]
    (folder / "traces.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "run.yaml").write_text(
        json.dumps(
            {
                "teacher": {"path": str(tiny_teacher), "dtype": "float32"},
                "student": {"path": str(tiny_student)},
                "traces": {"path": str(folder / "traces.jsonl")},
                "training": {"steps": 1, "bf16": False},
            }
        )
    )
    return folder / "run.yaml"


def test_the_command_line_captures_and_looks_into_it(run_yaml: Path, tmp_path: Path) -> None:
    def ask(*arguments: Any) -> str:
        result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.stdout

    output = tmp_path / "cache"
    said = ask("capture", run_yaml, "--output", output, "--k", 8)
    assert "12 sequences" in said
    assert "captured now 12, duplicates 0" in said
    info = json.loads(ask("cache", "info", output, "--json"))
    assert (info["mode"], info["k"], info["sequences"]) == ("topk", 8, 12)
    assert info["teacher"] in ask("cache", "info", output)
    assert "whole" in ask("cache", "verify", output)
    found = json.loads(ask("cache", "compare", output, "--sample", 4, "--json"))
    assert 0 < found["mean_kl"] < 1e-3
    assert 0.1 < found["mass_kept"] < 1
    assert found["tail_spread"] > 0.01
    assert found["max_logprob_error"] < 0.1

    shard = shard_paths(output)[0]
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(bytes(data))
    with pytest.raises(CacheError, match="does not match its checksum"):
        CliRunner().invoke(app, ["cache", "verify", str(output)], catch_exceptions=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--mode", "dense"], "--mode must be one of topk, hidden; got 'dense'"),
        (["--k", "0"], r"capture: k must be in \[1, 48\] for mode topk; got 0"),
        (["--backend", "vllm"], "base_url is required"),
        (
            [
                "--backend",
                "vllm",
                "--mode",
                "hidden",
                "--base-url",
                "http://localhost:1/v1",
                "--served-model",
                "m",
            ],
            "backend vllm needs a server and mode topk; got mode hidden",
        ),
    ],
    ids=["mode", "k", "no server", "hidden from a server"],
)
def test_bad_requests_are_one_line(
    run_yaml: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    command = ["capture", str(run_yaml), "--output", str(tmp_path / "cache"), *arguments]
    with pytest.raises(ConfigError, match=message):
        CliRunner().invoke(app, command, catch_exceptions=False)
    assert not (tmp_path / "cache" / "manifest.json").exists()


def _capture_as_rank(rank: int, port: int, run_yaml: Path, output: Path) -> None:
    where = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in where.items()})
    os.environ["MASTER_ADDR"] = "127.0.0.1"
    capture_run(load_run_config(run_yaml), output, CaptureSettings(k=8))


def test_two_ranks_share_one_capture(run_yaml: Path, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("fork")
    ranks = [
        context.Process(target=_capture_as_rank, args=(rank, port, run_yaml, tmp_path / "cache"))
        for rank in range(2)
    ]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(60)
    assert [process.exitcode for process in ranks] == [0, 0]
    _check_shared(tmp_path / "cache")


@pytest.mark.slow
def test_torchrun_shares_one_capture(run_yaml: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    verb = ["-m", "leadspan", "capture", str(run_yaml), "--output", str(tmp_path / "cache")]
    done = subprocess.run(
        [*command, *verb, "--k", "8"], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    _check_shared(tmp_path / "cache")


def _check_shared(output: Path) -> None:
    assert len(shard_paths(output)) == 2
    cache = TeacherCache(output)
    assert len(cache) == 12
    model = AutoModelForCausalLM.from_pretrained(cache.identity.teacher).eval()
    assert compare(cache, model, 12).mean_kl < 1e-3


def test_a_locked_folder_is_left_alone(tmp_path: Path, tiny_teacher: Path) -> None:
    from leadspan.runs import lock_folder

    with lock_folder(tmp_path), pytest.raises(LeadspanError, match="another process is writing"):
        capture_here(tiny_teacher, tmp_path)


@pytest.mark.parametrize(
    ("mode", "loss", "message"),
    [
        ("topk", {"kd_temperature": 2.0}, "kd_temperature must be 1 with a top-k cache"),
        ("topk", {"kd_temperature": 2.0, "sparse_target": "renormalised"}, None),
        ("topk", {"divergence": "reverse_kl"}, None),
        ("hidden", {"kd_temperature": 2.0, "divergence": "jsd"}, None),
    ],
)
def test_a_loss_that_the_cache_cannot_serve_is_refused_before_training(
    tmp_path: Path, tiny_teacher: Path, mode: Any, loss: dict[str, Any], message: str | None
) -> None:
    capture(full_sequences(4), local_backend(tiny_teacher, mode=mode, k=8), tmp_path, ALONE)
    teacher = TeacherConfig(path=str(tiny_teacher), cache=str(tmp_path))
    if message is not None:
        with pytest.raises(ConfigError, match=message):
            load_cached_teacher(teacher, LossConfig(**loss), build_tiny_tokenizer())
        return
    source = load_cached_teacher(teacher, LossConfig(**loss), build_tiny_tokenizer())
    batch = batch_of(full_sequences(4))
    hidden, head = torch.ones(len(batch.labels_N), 8), Head(torch.randn(VOCAB, 8))
    got = fused_loss(hidden, head, batch.labels_N, source.rows(batch), LossConfig(**loss), VOCAB)
    assert got.kd_N.min() > 0
