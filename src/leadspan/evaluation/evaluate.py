"""Evaluate a student on benchmarks: generate, grade, keep every sample, summarise."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from leadspan.config import EvaluationConfig, RenderConfig
from leadspan.config_io import validate
from leadspan.errors import ConfigError, DataError, RunError
from leadspan.evaluation.benchmarks import Benchmark, Problem, load_benchmark
from leadspan.evaluation.regrade import graded_fields, grader_versions
from leadspan.evaluation.samples import EvaluationFolder
from leadspan.evaluation.student import Prompt, Student, open_student
from leadspan.evaluation.summary import EvaluationResult, summarise
from leadspan.generation.requests import Completion, Request, seed_of
from leadspan.grading import Grade, Grader
from leadspan.progress import progress, say
from leadspan.records import Message
from leadspan.runs import lock_folder


def evaluate(
    student: str | Path,
    config: EvaluationConfig | Mapping[str, Any],
    output: str | Path,
    render: RenderConfig | None = None,
    revision: str | None = None,
) -> EvaluationResult:
    """Evaluate `student`; a second call with the same arguments goes on where the first stopped.

    Args:
        student: A model folder or hub id; for a chat server, any name.
        config: Benchmarks, sampling, back end; or the same as a mapping.
        output: Gets samples.jsonl, identity.json and, when all is done, evaluation.json.
        render: How the student's prompts are rendered, as in its training.
        revision: Of a hub id: commit, tag or branch.

    Raises:
        ConfigError: There is no benchmark, or two have one name.
        DataError: A benchmark, a gold or the model cannot be used.
        RunError: The folder belongs to another evaluation or is in use, or a server failed.
    """
    started = time.monotonic()
    if not isinstance(config, EvaluationConfig):
        config = validate(EvaluationConfig, config, "evaluate")
    benchmarks = load_benchmarks(config)
    folder = EvaluationFolder(output)
    with lock_folder(folder.path), Grader(limit_seconds=config.grading_limit_seconds) as grader:
        as_text = check_golds(benchmarks, grader)
        dated = (render or RenderConfig()).dated(folder.date)
        opened = open_student(student, config, dated, revision)
        identity = identity_of(opened, config, benchmarks)
        folder.claim(identity)
        for benchmark in benchmarks:
            _Pass(benchmark, config, opened, grader, folder).run()
        result = summarise(
            [benchmark.name for benchmark in benchmarks],
            folder.read(),
            config.pass_at,
            time.monotonic() - started,
            forcing=config.answer_forcing is not None,
        )
        folder.finish(identity, {**asdict(result), "golds_compared_as_text": as_text})
    return result


def load_benchmarks(config: EvaluationConfig) -> list[Benchmark]:
    """Load all benchmarks, before any model.

    Raises:
        ConfigError: There is none, or two have one name.
    """
    if not config.benchmarks:
        raise ConfigError("evaluation.benchmarks: must name at least one benchmark; got none.")
    benchmarks = [load_benchmark(benchmark) for benchmark in config.benchmarks]
    twice = [name for name, count in Counter(b.name for b in benchmarks).items() if count > 1]
    if twice:
        raise ConfigError(f"evaluation.benchmarks: two are called {twice[0]!r}. Give each a name.")
    return benchmarks


def check_golds(benchmarks: list[Benchmark], grader: Grader) -> dict[str, list[str]]:
    """Read every gold before anything is generated.

    Returns:
        Benchmark -> ids whose gold is no mathematics and is compared as text; also said on stderr.

    Raises:
        DataError: A gold is no number or no letter where the grading needs one; lists the ids.
    """
    as_text: dict[str, list[str]] = {}
    for benchmark in benchmarks:
        readable = [
            (
                problem.problem_id,
                [grader.check_gold(gold, benchmark.grading) for gold in problem.golds],
            )
            for problem in benchmark.problems
        ]
        unread = [
            name for name, futures in readable if not any(f.result().is_correct for f in futures)
        ]
        if not unread:
            continue
        shown = ", ".join(unread[:10]) + (" ..." if len(unread) > 10 else "")
        if benchmark.grading != "math":
            raise DataError(
                f"benchmark {benchmark.name}: the gold must be readable as {benchmark.grading}; it is "
                f"not for {len(unread)} problems: {shown}. Mend them or choose another grading."
            )
        as_text[benchmark.name] = unread
        say(
            f"benchmark {benchmark.name}: {len(unread)} golds are no mathematics and are compared "
            f"as text: {shown}"
        )
    return as_text


def identity_of(
    student: Student, config: EvaluationConfig, benchmarks: list[Benchmark]
) -> dict[str, Any]:
    """Everything that could change a result, speed settings left out."""
    return {
        **student.identity,
        "sampling": config.sampling.model_dump(mode="json"),
        "answer_forcing": config.answer_forcing and config.answer_forcing.model_dump(mode="json"),
        "unclosed": config.unclosed,
        "grading_limit_seconds": config.grading_limit_seconds,
        "versions": grader_versions(),
        "benchmarks": {benchmark.name: dict(benchmark.identity) for benchmark in benchmarks},
    }


@dataclass(frozen=True, slots=True)
class _Wanted:
    """One answer to be had: its request, and the row that it will fill."""

    request: Request
    problem: Problem
    row: dict[str, Any]
    opened: bool = False
    """The prompt ends in the opening think marker."""
    cue: str | None = None
    """Of a forced answer."""


@dataclass(slots=True)
class _Pass:
    """One benchmark's answers."""

    benchmark: Benchmark
    config: EvaluationConfig
    student: Student
    grader: Grader
    folder: EvaluationFolder
    _failed: list[str] = field(default_factory=list)

    def run(self) -> None:
        """Get what is missing: the answers, then the forced ones."""
        rows = [row for row in self.folder.read() if row["benchmark"] == self.benchmark.name]
        plain = {(row["problem_id"], row["sample"]) for row in rows if not row.get("forced")}
        prompts = self.student.prompts(self.benchmark.problems)
        asked = dict(zip((p.problem_id for p in self.benchmark.problems), prompts, strict=True))
        self._answer(list(self._missing(asked, plain)), self.benchmark.name)
        if self.config.answer_forcing is not None:
            self._answer(list(self._cut_off(asked)), f"{self.benchmark.name}, forced")
        if self._failed:
            raise RunError(
                f"{self.folder.path}: {len(self._failed)} answers could not be had, last: "
                f"{self._failed[-1]}. Run the same command again to ask for them."
            )

    def _missing(self, asked: Mapping[str, Prompt], done: set[Any]) -> Iterator[_Wanted]:
        for problem in self.benchmark.problems:
            prompt = asked[problem.problem_id]
            for sample in range(self.config.sampling.num_samples):
                if (problem.problem_id, sample) not in done:
                    row = self._row(problem, sample, prompt)
                    request = prompt.request(*self._key(problem, sample))
                    yield _Wanted(request, problem, row, prompt.opened)

    def _cut_off(self, asked: Mapping[str, Prompt]) -> Iterator[_Wanted]:
        """Samples that reached their limit inside the think block."""
        forcing = self.config.answer_forcing
        assert forcing is not None
        rows = [row for row in self.folder.read() if row["benchmark"] == self.benchmark.name]
        done = {(row["problem_id"], row["sample"]) for row in rows if row.get("forced")}
        problems = {problem.problem_id: problem for problem in self.benchmark.problems}
        for row in rows:
            name = (row["problem_id"], row["sample"])
            if (
                row.get("forced")
                or row["closed"]
                or row["finish_reason"] != "length"
                or name in done
            ):
                continue
            problem = problems[row["problem_id"]]
            prompt = self.student.force(asked[problem.problem_id], row["text"], forcing.cue)
            key, seed = self._key(problem, row["sample"])
            request = Request(
                key,
                prompt.ids,
                prompt.text,
                prompt.messages,
                seed_of(seed, "forced"),
                forcing.max_new_tokens,
            )
            forced = {**self._row(problem, row["sample"], prompt), "forced": True}
            yield _Wanted(request, problem, forced, prompt.opened, forcing.cue)

    def _key(self, problem: Problem, sample: int) -> tuple[str, int]:
        seed = seed_of(self.config.sampling.seed, self.benchmark.name, problem.problem_id, sample)
        return f"{problem.problem_id}#{sample}", seed

    def _row(self, problem: Problem, sample: int, prompt: Prompt) -> dict[str, Any]:
        row = {
            "benchmark": self.benchmark.name,
            "problem_id": problem.problem_id,
            "sample": sample,
            "prompt": prompt.text,
            "prompt_tokens": len(prompt.ids) or None,
            "golds": list(problem.golds),
        }
        return row if problem.difficulty is None else {**row, "difficulty": problem.difficulty}

    def _answer(self, wanted: list[_Wanted], label: str) -> None:
        """Generate, grade beside it, and write each sample once its grade is there."""
        if not wanted:
            return
        by_key = {want.request.key: want for want in wanted}
        requests = [want.request for want in wanted]
        graded = correct = 0
        pending: list[tuple[dict[str, Any], Future[Grade]]] = []
        with progress(label, len(wanted), "answers") as advance:
            for completion in self.student.backend.generate(requests):
                if completion.is_transient:
                    self._failed.append(f"{completion.key}: {completion.error}")
                    continue
                pending.append(self._submit(by_key[completion.key], completion))
                pending, done = self._write(pending, wait=False)
                graded, correct = graded + len(done), correct + sum(g.is_correct for g in done)
                advance(1, f"{correct}/{graded} correct")
            self._write(pending, wait=True)

    def _submit(
        self, want: _Wanted, completion: Completion
    ) -> tuple[dict[str, Any], Future[Grade]]:
        ended = completion.finish_reason == "stop"
        if want.cue is None:
            generation = self.student.split(completion.text, ended, want.opened)
            answer, closed = generation.answer, generation.closed
            whole = not closed and self.config.unclosed == "whole_text"
        else:
            answer, closed, whole = want.cue + completion.text, True, False
        row = {
            **want.row,
            "text": completion.text,
            "num_tokens": completion.num_tokens,
            "finish_reason": completion.finish_reason,
            "closed": closed,
            "answer": None if whole else answer,
            "seconds": completion.seconds,
        }
        if completion.error is not None:
            row["error"] = completion.error
        grading, pattern = self.benchmark.grading, self.benchmark.answer_pattern
        graded = completion.text if whole else answer
        return row, self.grader.submit(graded, want.problem.golds, grading, pattern)

    def _write(
        self, pending: list[tuple[dict[str, Any], Future[Grade]]], wait: bool
    ) -> tuple[list[tuple[dict[str, Any], Future[Grade]]], list[Grade]]:
        """Write the rows whose grade is there; return the others and the grades."""
        left, grades = [], []
        for row, future in pending:
            if not wait and not future.done():
                left.append((row, future))
                continue
            grade = future.result()
            grades.append(grade)
            self.folder.append({**row, **graded_fields(grade)})
        return left, grades


def generate_one(
    student: str | Path,
    question: str,
    config: EvaluationConfig,
    render: RenderConfig | None = None,
) -> str:
    """One answer of a student to one question, think block and all.

    Raises:
        RunError: A server failed.
    """
    opened = open_student(student, config, render or RenderConfig())
    problem = Problem("question", (Message("user", question),), ())
    request = opened.prompts([problem])[0].request("question", config.sampling.seed)
    completion = next(iter(opened.backend.generate([request])))
    if completion.error is not None:
        raise RunError(f"{student}: {completion.error}.")
    return completion.text
