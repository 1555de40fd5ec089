"""One training step: cached teacher, half the lead span, live teacher, against SFT and TRL's trainers.

    python benchmarks/step.py               # many minutes; the GKD peer holds all logits
    python benchmarks/step.py --quick       # tiny models, the start of one row: does it run?
    python benchmarks/step.py --json        # one JSON object as the last line

Random Qwen3 models with the real width of vocabulary, float32, CPU, on real R1 rows with the prompt
unscored; every case takes the same rows, padded to the longest. Time is forward and backward (for a
cache, with its look-up), the median of --rounds rounds in which the cases take turns; clipping and the
optimizer step are the same work for all, timed apart and added for everything but `half_time`. Memory
is the peak of forward and backward above what stays between steps (weights, optimizer, live teacher),
each case in a process of its own. Activations are the peak of tensors alone, as the profiler sees them
allocated, with the gradients there beforehand, less the head's gradient on its way to them and the loss
chunk: the process's peak also holds fragments and the matrix library's own buffers, which do not follow
the tokens. Peers come with the extra `bench`.
"""

from __future__ import annotations

import argparse
import json
import math
import pickle
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from leadspan.config import LossConfig, ModelConfig, StudentConfig, TeacherConfig, TrainingConfig
from leadspan.flops import training_flops
from leadspan.losses.fused import rows_in_budget
from leadspan.models import load_causal_lm, load_student, load_tokenizer, real_vocab_size
from leadspan.parallel import Ranks
from leadspan.records import Sequence
from leadspan.teachers.cache import load_cached_teacher
from leadspan.teachers.capture import capture
from leadspan.teachers.capture_live import LocalBackend, build_identity
from leadspan.teachers.live import LiveTeacher
from leadspan.traces.batches import Batch, collate, num_forwarded_tokens
from leadspan.traces.cut import supervise, truncate
from leadspan.traces.render import render
from leadspan.traces.sources import load_traces
from leadspan.training.metering import GIB, PeakMemory
from leadspan.training.objective import Objective
from leadspan.training.optimizer import build_optimizer

VOCAB = 151_936
CPU = torch.device("cpu")
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
SIZES = {"student": (512, 8), "teacher": (1024, 12)}
QUICK_SIZES = {"student": (64, 2), "teacher": (128, 2)}
TRAINING = TrainingConfig(steps=1, learning_rate=1e-6, bf16=False)


@dataclass(frozen=True)
class Ours:
    """A step of this library."""

    kd_ratio: float
    teacher: str | None = None
    lsp: float = 1.0


CASES: dict[str, Ours | str] = {
    "sft": Ours(0.0),
    "cached": Ours(0.5, "cached"),
    "cached half": Ours(0.5, "cached", lsp=0.5),
    "live kd only": Ours(1.0, "live"),
    "cached kd only": Ours(1.0, "cached"),
    "trl sft": "sft",
    "trl gkd": "gkd",
}
SAME_LOSS = {"trl sft": "sft", "trl gkd": "live kd only"}


def main() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    if arguments.memory_of:
        print(json.dumps(measure_memory(arguments.memory_of, Bench(arguments.folder))))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        prepare(arguments, folder)
        memory: dict[str, dict[str, float] | None] = dict.fromkeys(CASES)
        for name in () if arguments.skip_memory else CASES:
            memory[name] = memory_apart(name, folder, arguments.threads)
        bench = Bench(folder)
        times, optimizer_seconds = measure_times(bench, arguments.rounds)
    show(memory, times, optimizer_seconds)
    found = ratios(memory, times, optimizer_seconds, bench)
    for key, value in found.items():
        print(f"{key:<22} {'not measured' if value is None else f'{value:.3f}'}")
    if arguments.json:
        print(json.dumps(found))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="tiny models, the start of one row")
    parser.add_argument("--tokenizer", type=Path, default=DATA / "tokenizers" / "Qwen3-derived")
    parser.add_argument(
        "--traces", type=Path, default=DATA / "traces" / "mip_gsm8k_deepseek_r1.jsonl"
    )
    parser.add_argument("--rows", type=int, help="rows per step")
    parser.add_argument("--row-tokens", type=int, help="take the rows nearest to this length")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--skip-memory", action="store_true")
    parser.add_argument("--memory-of", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.rows = arguments.rows or (1 if arguments.quick else 4)
    arguments.row_tokens = arguments.row_tokens or (192 if arguments.quick else 384)
    arguments.rounds = arguments.rounds or (2 if arguments.quick else 5)
    for path in (arguments.tokenizer, arguments.traces):
        if not path.exists():
            parser.error(f"{path} is absent. Name a tokenizer and traces (--tokenizer, --traces).")
    return arguments


def prepare(arguments: argparse.Namespace, folder: Path) -> None:
    """Write models, rows and the teacher's cache, for this process and those of the memory."""
    tokenizer = load_tokenizer(ModelConfig(path=str(arguments.tokenizer)))
    sample = 20 if arguments.quick else None
    rendered = render(load_traces(arguments.traces, sample=sample).traces, tokenizer)
    rows = sorted(rendered, key=lambda row: abs(len(row) - arguments.row_tokens))[: arguments.rows]
    if arguments.quick:
        rows = truncate(rows, max_tokens=arguments.row_tokens)
    (folder / "rows.pickle").write_bytes(pickle.dumps(rows))
    print(f"{len(rows)} rows of {', '.join(str(len(row)) for row in rows)} tokens", flush=True)
    for seed, (name, size) in enumerate((QUICK_SIZES if arguments.quick else SIZES).items()):
        model = build_model(*size, seed)
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    identity = build_identity(teacher_config(folder), tokenizer, "topk", 64)
    backend = LocalBackend(model.eval(), identity, CPU)
    capture(rows, backend, folder / "cache", Ranks(0, 1, CPU))


def build_model(hidden: int, layers: int, seed: int) -> Any:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(seed)
    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=VOCAB,
            hidden_size=hidden,
            intermediate_size=3 * hidden,
            num_hidden_layers=layers,
            num_attention_heads=hidden // 32,
            num_key_value_heads=hidden // 64,
            head_dim=64,
            tie_word_embeddings=True,
        )
    ).float()


def teacher_config(folder: Path, cached: bool = False) -> TeacherConfig:
    cache = str(folder / "cache") if cached else None
    return TeacherConfig(path=str(folder / "teacher"), dtype="float32", cache=cache)


class Bench:
    """Student, rows and optimizer; a step of each case by name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: list[Sequence] = pickle.loads((folder / "rows.pickle").read_bytes())
        self.tokenizer = load_tokenizer(ModelConfig(path=str(folder / "student")))
        self.student = load_student(StudentConfig(path=str(folder / "student")))
        self.optimizer = build_optimizer(self.student, TRAINING, CPU)
        self._teacher_model: Any = None

    @property
    def teacher_model(self) -> Any:
        """The live teacher, loaded where a case needs it."""
        if self._teacher_model is None:
            self._teacher_model = load_causal_lm(teacher_config(self.folder))
        return self._teacher_model

    def batch(self, lsp: float = 1.0) -> Batch:
        """The rows, cut."""
        return collate([supervise(sequence) for sequence in truncate(self.rows, lsp=lsp)])

    def step(self, name: str) -> Callable[[], float]:
        """Forward and backward of a case; gives the mean loss of a scored token."""
        case = CASES[name]
        return self._ours(case) if isinstance(case, Ours) else self._trl(case)

    def _ours(self, case: Ours) -> Callable[[], float]:
        loss = LossConfig(kd_ratio=case.kd_ratio)
        objective = Objective(self.student, loss, real_vocab_size(self.tokenizer))
        batch = self.batch(case.lsp)
        teacher = None
        if case.teacher == "live":
            teacher = LiveTeacher(self.teacher_model, bf16=False)
        elif case.teacher == "cached":
            teacher = load_cached_teacher(
                teacher_config(self.folder, cached=True), loss, self.tokenizer
            )

        def step() -> float:
            mean = objective(batch, teacher.rows(batch) if teacher else None)[0]
            mean = mean / len(batch.labels_N)
            mean.backward()
            return mean.item()

        return step

    def _trl(self, kind: str) -> Callable[[], float]:
        examples = [supervise(sequence) for sequence in self.rows]
        width = max(map(len, self.rows))
        inputs = {
            "input_ids": torch.zeros(len(self.rows), width, dtype=torch.int64),
            "attention_mask": torch.zeros(len(self.rows), width, dtype=torch.int64),
            "labels": torch.full((len(self.rows), width), -100),
        }
        for place, example in enumerate(examples):
            tokens_T = torch.from_numpy(example.sequence.input_ids_T).long()
            scored_T = torch.from_numpy(example.supervised_T)
            inputs["input_ids"][place, : len(tokens_T)] = tokens_T
            inputs["attention_mask"][place, : len(tokens_T)] = 1
            inputs["labels"][place, : len(tokens_T)][scored_T] = tokens_T[scored_T]
        num_scored = sum(example.num_scored_tokens for example in examples)
        trainer = self._build_trainer(kind)

        def step() -> float:
            loss: Tensor = trainer.training_step(trainer.model, dict(inputs), num_scored)
            return loss.item()

        return step

    def _build_trainer(self, kind: str) -> Any:
        from datasets import Dataset

        rows = [row.input_ids_T.tolist() for row in self.rows]
        common: dict[str, Any] = {
            "model": self.student,
            "processing_class": self.tokenizer,
            "train_dataset": Dataset.from_dict({"input_ids": rows, "labels": rows}),
            "data_collator": list,
        }
        options: dict[str, Any] = {
            "output_dir": str(self.folder / kind),
            "use_cpu": True,
            "bf16": False,
            "gradient_checkpointing": False,
            "report_to": "none",
            "dataset_kwargs": {"skip_prepare_dataset": True},
        }
        if kind == "sft":
            from trl import SFTConfig, SFTTrainer

            return SFTTrainer(args=SFTConfig(**options), **common)
        from trl.experimental.gkd import GKDConfig, GKDTrainer

        args = GKDConfig(lmbda=0.0, beta=0.0, temperature=1.0, **options)
        return GKDTrainer(teacher_model=self.teacher_model, args=args, **common)

    def optimize(self) -> float:
        """Clip and step the optimizer, drop the gradients; seconds."""
        started = time.perf_counter()
        torch.nn.utils.clip_grad_norm_(self.student.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return time.perf_counter() - started


def measure_times(bench: Bench, rounds: int) -> tuple[dict[str, float], float]:
    """Median seconds of forward and backward by case, and of the optimizer step."""
    steps: dict[str, Callable[[], float]] = {}
    losses = {}
    for name in CASES:
        try:
            steps[name] = bench.step(name)
            losses[name] = steps[name]()
        except Exception as error:  # a peer that is absent or broken is left out, and said
            steps.pop(name, None)
            print(f"  {name}: left out ({str(error).splitlines()[0]})", file=sys.stderr)
        bench.optimizer.zero_grad(set_to_none=True)
    for theirs, ours in SAME_LOSS.items():
        # The peers' softmax runs over the head's unused rows too.
        if theirs in losses and abs(losses[theirs] - losses[ours]) > 2e-3 * losses[ours]:
            print(f"  {theirs}: loss {losses[theirs]:.5f}, ours {losses[ours]:.5f}")
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    optimizer_seconds = []
    for _ in range(rounds):
        for name, step in steps.items():
            started = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - started)
            optimizer_seconds.append(bench.optimize())
    times = {name: statistics.median(each) for name, each in seconds.items()}
    return times, statistics.median(optimizer_seconds)


def measure_memory(name: str, bench: Bench) -> dict[str, float]:
    """GiB of one step: above what stays between steps, in all, and activations alone."""
    step = bench.step(name)
    step()
    bench.optimize()
    found = dict(zip(("step", "total"), peak_of(step), strict=True))
    for parameter in bench.student.parameters():
        assert parameter.grad is not None
        parameter.grad.zero_()
    case = CASES[name]
    if isinstance(case, Ours):
        head_gradient = bench.student.get_output_embeddings().weight.nbytes / GIB
        chunk = loss_chunk(bench, len(bench.batch(case.lsp).labels_N), case.teacher == "live")
        found["activations"] = tensor_peak_of(step) - head_gradient - chunk
    return found


def tensor_peak_of(step: Callable[[], float]) -> float:
    """Peak of the tensors that a step allocates, in GiB."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    assert profiler.profiler is not None
    events = profiler.profiler.kineto_results.events()
    changes = [(e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]"]
    return max(accumulate(num_bytes for _, num_bytes in sorted(changes))) / GIB


def peak_of(step: Callable[[], float]) -> tuple[float, float]:
    """Peak of a step above what was held before it, and in all, in GiB."""
    memory = PeakMemory(CPU)
    memory.reset_for_steps()
    step()
    memory.note_step()
    _, peak = memory.read()
    status = Path("/proc/self/status").read_text(encoding="ascii")
    if peak is None:
        sys.exit("this machine refuses to reset the peak of memory (/proc/self/clear_refs)")
    return peak, int(status.split("VmHWM:")[1].split()[0]) * 1024 / GIB


def loss_chunk(bench: Bench, num_rows: int, dense: bool) -> float:
    """GiB of the logits that the fused loss holds at a time, as it shares its rows out."""
    vocab_size, buffers = real_vocab_size(bench.tokenizer), 2 if dense else 1
    most = rows_in_budget(CPU, vocab_size, torch.float32, buffers)
    chunk_rows = math.ceil(num_rows / math.ceil(num_rows / most))
    return chunk_rows * vocab_size * 4 * buffers / GIB


def memory_apart(name: str, folder: Path, threads: int) -> dict[str, float] | None:
    command = [sys.executable, __file__, "--memory-of", name, "--folder", str(folder)]
    done = subprocess.run(
        [*command, "--threads", str(threads), *data_options()],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        print(f"  {name}: {(done.stderr.strip().splitlines() or ['failed'])[-1]}", file=sys.stderr)
        return None
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def data_options() -> list[str]:
    """The data that this call was given, for the children."""
    given = sys.argv[1:]
    named = [place for place, word in enumerate(given) if word in ("--tokenizer", "--traces")]
    return [word for place in named for word in given[place : place + 2]]


def show(
    memory: dict[str, dict[str, float] | None], times: dict[str, float], optimizer_seconds: float
) -> None:
    print(f"{'':<16}{'seconds':>9}{'step GiB':>10}{'activations':>13}{'total GiB':>11}")
    for name in CASES:
        cells = memory[name] or {}
        row = [times.get(name), *(cells.get(key) for key in ("step", "activations", "total"))]
        text = ["-" if value is None else f"{value:.3f}" for value in row]
        print(f"{name:<16}{text[0]:>9}{text[1]:>10}{text[2]:>13}{text[3]:>11}")
    print(f"{'optimizer step':<16}{optimizer_seconds:>9.3f}")


def ratios(
    memory: dict[str, dict[str, float] | None],
    times: dict[str, float],
    optimizer_seconds: float,
    bench: Bench,
) -> dict[str, float | None]:
    whole = {name: seconds + optimizer_seconds for name, seconds in times.items()}
    peak = {name: found["step"] for name, found in memory.items() if found}
    activations = {name: found.get("activations") for name, found in memory.items() if found}
    flops = {lsp: flops_of(bench, lsp) for lsp in (0.5, 1.0)}
    for name in ("sft", "trl sft"):
        print(
            f"cached against {name}: {share(whole, 'cached', name)} x time, "
            f"{share(peak, 'cached', name)} x memory"
        )

    def against_best(of: dict[str, float]) -> float | None:
        found = [share(of, "cached", name) for name in ("sft", "trl sft")]
        return max((each for each in found if each is not None), default=None)

    return {
        "cached_vs_sft_time": against_best(whole),
        "cached_vs_sft_memory": against_best(peak),
        "half_flops": round(flops[0.5] / flops[1.0], 4),
        "half_time": share(times, "cached half", "cached"),
        "half_activations": share(activations, "cached half", "cached"),
        "gkd_live_time": share(whole, "trl gkd", "live kd only"),
        "gkd_cached_time": share(whole, "trl gkd", "cached kd only"),
        "gkd_memory": share(peak, "live kd only", "trl gkd"),
    }


def share(of: dict[str, Any], part: str, whole: str) -> float | None:
    if of.get(part) is None or of.get(whole) is None:
        return None
    return round(of[part] / of[whole], 4)


def flops_of(bench: Bench, lsp: float) -> int:
    examples = bench.batch(lsp).examples
    return training_flops(
        bench.student.config,
        [num_forwarded_tokens(example) for example in examples],
        [example.num_scored_tokens for example in examples],
        attention="causal",
    )


if __name__ == "__main__":
    main()
