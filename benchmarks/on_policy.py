"""One on-policy step: ours against TRL's DistillationTrainer, on the same prompts and sampled tokens.

    python benchmarks/on_policy.py --json    # many minutes
    python benchmarks/on_policy.py --quick   # tiny models, few tokens: does it run?

The random Qwen3 models of step.py, float32, CPU; prompts are random tokens of mixed lengths, and every
rollout reaches the horizon. Writing is `generation.local.generate` with entropies, as training calls it,
against what their trainer calls where there is no vLLM; both write the same number of tokens, by their
own dice. The step is what comes after writing: the teacher's rows, loss, backward, clipping, optimizer;
theirs is its own `training_step` on a batch that its own code made of the tokens that ours wrote. Both
run without gradient checkpointing and without padding behind a rollout. Times are CPU seconds of the
process, which other work on the machine changes little; of a step the median of --rounds rounds in which
the two take turns, with the default divergence of either library, forward and reverse KL.
Memory is the peak of the tensors that forward and backward allocate, gradients included, as the profiler
sees them. Of several divergences the worst ratio counts.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from leadspan.config import LossConfig, SamplingConfig
from leadspan.generation.local import generate
from leadspan.generation.requests import Request, seed_of
from leadspan.records import Example, Sequence, Span
from leadspan.teachers.live import LiveTeacher
from leadspan.traces.batches import collate
from leadspan.training.objective import Objective
from leadspan.training.optimizer import build_optimizer
from step import CPU, QUICK_SIZES, SIZES, TRAINING, VOCAB, build_model, tensor_peak_of

PAD, END = 0, 1
DIVERGENCES = {0.0: "forward_kl", 0.5: "jsd", 1.0: "reverse_kl"}
"""Ours by TRL's `beta`; our `jsd` mixes evenly by default."""
TIMED = (0.0, 1.0)
"""Our default and theirs."""

Step = Callable[[], float]


@dataclass(frozen=True)
class Work:
    """What both do: models, prompts and what is written after them."""

    student: Any
    teacher: Any
    prompts: list[tuple[int, ...]]
    """One for each rollout: those of a prompt stand together."""
    new_tokens: int


def main() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    sizes = QUICK_SIZES if arguments.quick else SIZES
    student, teacher = (build_model(*size, seed) for seed, size in enumerate(sizes.values()))
    generator = np.random.default_rng(0)
    low, high = (8, 16) if arguments.quick else (64, 128)
    prompts = [
        tuple(generator.integers(END + 1, VOCAB, size=generator.integers(low, high)).tolist())
        for _ in range(arguments.prompts)
    ]
    copied = [prompt for prompt in prompts for _ in range(arguments.samples)]
    work = Work(student, teacher.eval(), copied, arguments.new_tokens)
    with tempfile.TemporaryDirectory() as temporary:
        peer = Peer(work, Path(temporary))
        rollout_time, completions = measure_rollouts(work, peer)
        # One sample of each prompt, so that the prompts of the step differ.
        chosen = range(len(copied))[:: arguments.samples][: arguments.sequences]
        rollouts = [(copied[place], completions[place]) for place in chosen]
        found = {**measure_steps(work, peer, rollouts, arguments.rounds), **rollout_time}
    for key, value in found.items():
        print(f"{key:<22} {value:.3g}")
    if arguments.json:
        print(json.dumps(found))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="tiny models, few tokens")
    parser.add_argument("--prompts", type=int)
    parser.add_argument("--samples", type=int, help="rollouts per prompt")
    parser.add_argument("--new-tokens", type=int, help="tokens per rollout")
    parser.add_argument("--sequences", type=int, default=4, help="rollouts of a timed step")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    arguments.prompts = arguments.prompts or (4 if arguments.quick else 16)
    arguments.samples = arguments.samples or (2 if arguments.quick else 4)
    arguments.new_tokens = arguments.new_tokens or (16 if arguments.quick else 256)
    arguments.rounds = arguments.rounds or (1 if arguments.quick else 3)
    return arguments


class Peer:
    """TRL's trainer over the same models."""

    def __init__(self, work: Work, folder: Path) -> None:
        try:
            from trl import DistillationConfig, DistillationTrainer
        except ImportError as error:
            sys.exit(f'on_policy.py: needs TRL 1.16 ({error}). pip install "leadspan[bench]".')
        from datasets import Dataset

        arguments = DistillationConfig(
            output_dir=str(folder),
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            report_to="none",
            learning_rate=TRAINING.learning_rate,
            max_completion_length=work.new_tokens,
        )
        self._trainer = DistillationTrainer(
            model=work.student,
            teacher_model=work.teacher,
            args=arguments,
            train_dataset=Dataset.from_dict({"prompt": ["t2"]}),
            processing_class=self._tokenizer,
        )
        # Their training loop would set it, to the same.
        self._trainer.current_gradient_accumulation_steps = 1
        self._prompts = [list(prompt) for prompt in work.prompts]

    @cached_property
    def _tokenizer(self) -> Any:
        """A word a token, because their trainer takes prompts as text."""
        from tokenizers import Tokenizer, models, pre_tokenizers
        from transformers import PreTrainedTokenizerFast

        words = {"<pad>": PAD, "<end>": END, **{f"t{token}": token for token in range(2, VOCAB)}}
        tokenizer = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        return PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<end>", padding_side="left"
        )

    def write(self) -> list[list[int]]:
        """Write all rollouts, as the trainer does between steps."""
        written: list[list[int]] = self._trainer._generate_single_turn(self._prompts, None, {})
        return written

    def step(self, rollouts: list[tuple[tuple[int, ...], list[int]]], beta: float) -> Step:
        """Forward and backward on given rollouts; gives the mean loss of a sampled token."""
        trainer = self._trainer
        own = trainer._generate_single_turn
        trainer._generate_single_turn = lambda *_, **__: [list(ids) for _, ids in rollouts]
        batch = trainer._generate_and_score_completions(
            [{"prompt": " ".join(f"t{token}" for token in prompt)} for prompt, _ in rollouts]
        )
        trainer._generate_single_turn = own
        for (prompt, ids), row, mask in zip(
            rollouts, batch["prompt_ids"], batch["prompt_mask"], strict=True
        ):
            assert row[mask.bool()].tolist() == list(prompt)
            assert len(ids) == batch["completion_ids"].shape[1]

        def step() -> float:
            trainer.beta = beta
            trainer._prepare_inputs = lambda _: batch
            loss: torch.Tensor = trainer.training_step(trainer.model, [], None)
            return loss.item()

        return step

    def optimizer(self) -> Any:
        """The one that the trainer would make."""
        return self._trainer.create_optimizer()


def write_ours(work: Work) -> list[list[int]]:
    """Write all rollouts as training does, except that none ends before the horizon."""
    requests = [
        Request(str(place), prompt, seed=seed_of(0, place))
        for place, prompt in enumerate(work.prompts)
    ]
    sampling = SamplingConfig(
        sampling_temperature=1.0, top_p=1.0, top_k=0, max_new_tokens=work.new_tokens
    )
    answers = generate(work.student, requests, sampling, stop_ids=(), with_entropies=True)
    found = {answer.request.key: answer.token_ids for answer in answers}
    return [found[request.key] for request in requests]


def build_step(
    work: Work, rollouts: list[tuple[tuple[int, ...], list[int]]], divergence: str
) -> Step:
    """Forward and backward of a step of this library."""
    loss = LossConfig.model_validate({"kd_ratio": 1.0, "divergence": divergence})
    objective = Objective(work.student, loss, VOCAB)
    teacher = LiveTeacher(work.teacher, bf16=False)
    batch = collate([as_example(prompt, ids) for prompt, ids in rollouts])

    def step() -> float:
        total = objective(batch, teacher.rows(batch), is_rollout=True)[0]
        mean = total / len(batch.labels_N)
        mean.backward()
        return mean.item()

    return step


def as_example(prompt: tuple[int, ...], ids: list[int]) -> Example:
    tokens_T = np.array([*prompt, *ids], dtype=np.int32)
    start, end = len(prompt), len(tokens_T)
    sequence = Sequence(
        "rollout", tokens_T, Span(0, start), Span(start, end), Span(end, end), was_cut=True
    )
    return Example(sequence, np.arange(end) >= start)


def measure_rollouts(work: Work, peer: Peer) -> tuple[dict[str, float], list[list[int]]]:
    """The ratio of seconds, and what ours wrote. One writing is as many like steps as it has tokens."""
    started = time.process_time()
    completions = write_ours(work)
    between = time.process_time()
    peer.write()
    seconds = {"ours": between - started, "trl": time.process_time() - between}
    ratio = show("writing", {who: [each] for who, each in seconds.items()})
    return {"rollout_time_vs_trl": ratio}, completions


def measure_steps(
    work: Work, peer: Peer, rollouts: list[tuple[tuple[int, ...], list[int]]], rounds: int
) -> dict[str, float]:
    """Ratios of time and memory, and how far the losses are apart."""
    student = work.student
    steps = {
        beta: {"ours": build_step(work, rollouts, name), "trl": peer.step(rollouts, beta)}
        for beta, name in DIVERGENCES.items()
    }
    differences, peaks, times = [], [], []
    for beta, pair in steps.items():
        loss, peak = {}, {}
        for who, step in pair.items():
            loss[who], peak[who] = loss_and_peak(step)
            student.zero_grad(set_to_none=True)
            print(f"{DIVERGENCES[beta]}: {who} loss {loss[who]:.7f}, {peak[who]:.3f} GiB")
        differences.append(abs(loss["ours"] - loss["trl"]))
        peaks.append(peak["ours"] / peak["trl"])
    optimizers = {"ours": build_optimizer(student, TRAINING, CPU), "trl": peer.optimizer()}
    for beta in TIMED:
        seconds: dict[str, list[float]] = {"ours": [], "trl": []}
        for _ in range(rounds):
            for who, taken in seconds.items():
                started = time.process_time()
                steps[beta][who]()
                torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
                optimizers[who].step()
                optimizers[who].zero_grad(set_to_none=True)
                taken.append(time.process_time() - started)
        times.append(show(f"step, {DIVERGENCES[beta]}", seconds))
    return {
        "step_time_vs_trl": max(times),
        "step_memory_vs_trl": round(max(peaks), 4),
        "loss_difference": max(differences),
    }


def loss_and_peak(step: Step) -> tuple[float, float]:
    """What a step gives, and the GiB of tensors that it held at most."""
    losses = []

    def noted() -> float:
        losses.append(step())
        return losses[0]

    peak = tensor_peak_of(noted)
    return losses[0], peak


def show(what: str, seconds: dict[str, list[float]]) -> float:
    """The ratio of the medians, printed with what it comes from."""
    for who, each in seconds.items():
        print(f"{what}: {who} {', '.join(f'{one:.2f}' for one in each)} s")
    ratio = statistics.median(seconds["ours"]) / statistics.median(seconds["trl"])
    print(f"{what}: {ratio:.3f} x time", flush=True)
    return round(ratio, 4)


if __name__ == "__main__":
    main()
