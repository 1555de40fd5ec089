"""`rollouts.jsonl` of a run folder: what the student wrote lately, written by training, read to be looked at.

A line is a rollout with what the teacher thinks of it. The means of a step, which metrics.jsonl keeps for
every step, are taken from the same records. Nothing is computed from the file: a run that lost it goes on.

Shape suffix: G tokens that the student wrote.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from collections.abc import Sequence as SequenceABC
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from leadspan.errors import DamagedError, RunError
from leadspan.integrity import iter_sealed_lines
from leadspan.progress import build_table
from leadspan.runs import DECILES, RunFolder, replacing
from leadspan.traces.inspect import visible
from leadspan.training.rollouts import Rollout

KEPT_STEPS = 20
"""Steps whose rollouts stay in the run folder."""
MISSING = "–"

Record = Mapping[str, Any]
"""A line of rollouts.jsonl."""


def by_decile(values_G: SequenceABC[float] | torch.Tensor) -> list[float]:
    """Means of a rollout's tokens by tenth of its length; fewer than ten tokens give as many means."""
    values = torch.as_tensor(values_G, dtype=torch.float64).numpy()
    parts = np.array_split(values, min(DECILES, len(values)))
    return [float(part.mean()) for part in parts]


def mean_by_decile(rollouts: SequenceABC[SequenceABC[float]]) -> list[float]:
    """Ten means over rollouts, each of which counts the same, of what `by_decile` gave for each.

    A rollout of fewer than ten tokens has in each tenth the token that stands there.
    """
    rows = [[row[place * len(row) // DECILES] for place in range(DECILES)] for row in rollouts]
    means: list[float] = np.mean(rows, axis=0).tolist()
    return means


def describe_rollout(step: int, rollout: Rollout, kd_by_decile: list[float]) -> dict[str, Any]:
    """The record of a rollout of a 1-based step."""
    entropies_G = rollout.entropies_G
    return {
        "step": step,
        "prompt_id": rollout.prompt_id,
        "sample": rollout.sample,
        "num_tokens": rollout.num_tokens,
        "ended": rollout.ended,
        "staleness": rollout.staleness,
        "entropy": rollout.mean_entropy,
        "entropy_by_decile": by_decile(entropies_G) if entropies_G else None,
        "kd_by_decile": kd_by_decile,
        "text": rollout.text,
    }


def describe_step(records: SequenceABC[Record]) -> dict[str, Any]:
    """How the rollouts of a step came out, as far as it is known.

    `entropy` is the mean over tokens; the tenths are means over rollouts.
    """
    num_tokens = sum(record["num_tokens"] for record in records)
    described = {
        "tokens_sampled": num_tokens,
        "rollouts_ended": sum(record["ended"] for record in records) / len(records),
        "kd_by_decile": mean_by_decile([record["kd_by_decile"] for record in records]),
    }
    entropy = _mean_entropy(records)
    if entropy is not None:
        described["entropy"] = entropy
        described["entropy_by_decile"] = mean_by_decile(
            [record["entropy_by_decile"] for record in records]
        )
    if records[0]["staleness"] is not None:
        described["staleness"] = records[0]["staleness"]
    return described


def _mean_entropy(records: SequenceABC[Record]) -> float | None:
    """Mean over the tokens of a step, None where what wrote them does not say."""
    known = [record for record in records if record["entropy"] is not None]
    if not known:
        return None
    total = sum(record["entropy"] * record["num_tokens"] for record in known)
    num_tokens: int = sum(record["num_tokens"] for record in records)
    return float(total / num_tokens)


class RolloutLog:
    """The rollouts of the last steps as `rollouts.jsonl`, one JSON object a line."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._records: list[Record] = []

    def add(self, records: SequenceABC[Record]) -> None:
        """Add those of a step and drop those of steps long past.

        Raises:
            RunError: The disk refuses.
        """
        oldest = records[0]["step"] - KEPT_STEPS
        self._records = [each for each in self._records if each["step"] > oldest] + [*records]
        lines = (json.dumps(record, allow_nan=False) + "\n" for record in self._records)
        with replacing(self._path) as temporary:
            temporary.write_text("".join(lines), encoding="utf-8")


def read_rollouts(folder: Path) -> dict[int, list[Record]]:
    """The rollouts that a run folder holds, by step, in order; the run may be under way.

    Raises:
        RunError: The folder is no run, or has none.
        DamagedError: A line cannot be read.
    """
    run = RunFolder(folder)
    if not run.config_path.is_file():
        raise RunError(
            f"{folder}: must be the folder of a run, with run.yaml in it. Give the --output of "
            "`leadspan train`, or a folder under points/ of a sweep."
        )
    path = run.rollouts_path
    lines = path.read_bytes().splitlines() if path.is_file() else []
    if not lines:
        raise RunError(
            f"{folder}: has no rollouts.jsonl. Runs with `rollout` in run.yaml write it, from their "
            "first step on."
        )
    records = list(iter_sealed_lines(lines, path))
    for number, record in enumerate(records, 1):
        _check(record, f"{path}:{number}")
    return {step: list(found) for step, found in groupby(records, lambda one: int(one["step"]))}


_FIELDS: Mapping[str, tuple[type, ...]] = {
    "step": (int,),
    "prompt_id": (str,),
    "sample": (int,),
    "num_tokens": (int,),
    "ended": (bool,),
    "entropy": (float, type(None)),
    "kd_by_decile": (list,),
    "text": (str,),
}
"""What is shown of a record."""


def _check(record: Record, where: str) -> None:
    for name, types in _FIELDS.items():
        if type(record.get(name)) not in types:
            expected = " or ".join("null" if t is type(None) else t.__name__ for t in types)
            raise _damaged(record, where, name, expected)
    if record["num_tokens"] < 1:
        raise _damaged(record, where, "num_tokens", "at least 1")
    kds = record["kd_by_decile"]
    if not 1 <= len(kds) <= DECILES or not all(isinstance(kd, float) for kd in kds):
        raise _damaged(record, where, "kd_by_decile", f"a list of 1 to {DECILES} numbers")


def _damaged(record: Record, where: str, name: str, rule: str) -> DamagedError:
    return DamagedError(
        f"{where}: {name} must be {rule}; got {record.get(name)!r}. Delete the file: the run goes on "
        "without it."
    )


def choose_step(by_step: Mapping[int, SequenceABC[Record]], step: int | None) -> int:
    """A step of those that are there, the last one by default.

    Raises:
        RunError: It is not there.
    """
    if step is None:
        return max(by_step)
    if step not in by_step:
        raise RunError(
            f"--step must be one of the steps that are kept, {min(by_step)} to {max(by_step)}; got {step}."
        )
    return step


def summarise_step(records: SequenceABC[Record]) -> dict[str, Any]:
    """A step in a few numbers; `entropy` and `kd` are nats per token, None where not known.

    `entropy` is the mean over tokens, `kd` that over tenths of each rollout.
    """
    num_tokens = sum(one["num_tokens"] for one in records)
    return {
        "step": records[0]["step"],
        "rollouts": len(records),
        "mean_tokens": num_tokens / len(records),
        "ended": sum(one["ended"] for one in records) / len(records),
        "entropy": _mean_entropy(records),
        "kd": float(np.mean(mean_by_decile([one["kd_by_decile"] for one in records]))),
    }


def show_rollouts(
    by_step: Mapping[int, SequenceABC[Record]], step: int, limit: int, console: Console
) -> None:
    """Print a table of the steps and the texts of one. Text from the model is never markup."""
    headers = ("step", "rollouts", "mean tokens", "ended", "entropy", "divergence")
    table = build_table(*headers, title="rollouts by step")
    for records in by_step.values():
        found = summarise_step(records)
        table.add_row(
            str(found["step"]),
            str(found["rollouts"]),
            f"{found['mean_tokens']:.1f}",
            f"{found['ended']:.0%}",
            _say(found["entropy"]),
            _say(found["kd"]),
        )
    console.print(table)
    records = by_step[step]
    for record in records[:limit]:
        ending = "ended" if record["ended"] else "stopped at the horizon"
        title = (
            f"step {step}, {visible(record['prompt_id'])}, sample {record['sample']}: "
            f"{record['num_tokens']} tokens, {ending}, entropy {_say(record['entropy'])}"
        )
        deciles = " ".join(map(_say, record["kd_by_decile"]))
        console.print(
            Panel(
                Text(visible(record["text"])),
                title=Text(title),
                title_align="left",
                subtitle=Text(f"divergence by tenth: {deciles}"),
                subtitle_align="left",
            )
        )
    if len(records) > limit:
        console.print(Text(f"{len(records) - limit} more of step {step}: --limit {len(records)}"))


def _say(value: float | None) -> str:
    return MISSING if value is None else f"{value:.3f}"
