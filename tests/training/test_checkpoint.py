"""Checkpoints: whole or refused, never executed, never lost to a kill."""

from __future__ import annotations

import itertools
import os
import pickle
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from leadspan.errors import DamagedError, RunError
from leadspan.parallel import Ranks
from leadspan.training import shards
from leadspan.training.checkpoint import (
    best_folder,
    drop_old,
    find_last,
    load_best,
    load_checkpoint,
    load_last,
    save_checkpoint,
    step_folder,
)
from leadspan.training.shards import ShardReader
from tests.damage import damaged, draw_damages, outcome_of

ALONE = Ranks(0, 1, torch.device("cpu"))
NAMES = {"shard": "rank-*.safetensors", "manifest": "manifest.json"}


def _state(step: int, best_step: int | None = None) -> dict[str, Any]:
    return {"totals": {"step": step, "best_step": best_step}, "metrics": {"size": 0}}


def _pair(seed: int, width: int = 5) -> tuple[torch.nn.Module, torch.optim.AdamW]:
    """A small model with a frozen part, and an optimiser that has taken `seed` steps."""
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(3, width), torch.nn.Linear(width, 2))
    model[0].bias.requires_grad_(False)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=0.1, fused=True)
    for _ in range(seed):
        model(torch.randn(4, 3)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return model, optimizer


def _content(model: torch.nn.Module, optimizer: torch.optim.AdamW) -> list[torch.Tensor]:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    moments = [value for p in trained for value in optimizer.state[p].values()]
    return [tensor.detach().clone() for tensor in (*trained, *moments)]


def _same(left: list[torch.Tensor], right: list[torch.Tensor]) -> bool:
    return len(left) == len(right) and all(map(torch.equal, left, right))


def _no_check(state: Mapping[str, Any]) -> None:
    pass


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    folder = step_folder(tmp_path, 3)
    save_checkpoint(folder, ALONE, *_pair(3), _state(3))
    return folder


def test_what_was_saved_comes_back_to_the_bit(saved: Path) -> None:
    drawn = torch.rand(2)  # the draw after the save
    pair = _pair(0)
    assert not _same(_content(*pair), _content(*_pair(3)))
    assert load_checkpoint(saved, ALONE, *pair) == _state(3)
    assert torch.equal(torch.rand(2), drawn)
    assert _same(_content(*pair), _content(*_pair(3)))
    assert {path.suffix for path in saved.iterdir()} == {".safetensors", ".json"}


@pytest.mark.parametrize("kind", NAMES)
def test_damage_is_named_or_harmless(saved: Path, kind: str) -> None:
    (path,) = saved.glob(NAMES[kind])
    expected = _content(*_pair(3))
    noticed = 0
    for what, content in draw_damages(path.read_bytes()):
        pair = _pair(0)
        with damaged(path, content):
            state, refusal = outcome_of(lambda pair=pair: load_checkpoint(saved, ALONE, *pair))
        if refusal is None:  # between the words of JSON a byte may be any other space
            assert kind == "manifest", what
            assert state == _state(3), what
            assert _same(_content(*pair), expected), what
        else:
            noticed += 1
            assert str(saved) in refusal, what
            assert "\n" not in refusal, what
    assert noticed >= 25


def test_a_lost_file_is_named(saved: Path) -> None:
    (path,) = saved.glob(NAMES["shard"])
    path.unlink()
    with pytest.raises(DamagedError, match=f"{path.name}: cannot be read"):
        load_checkpoint(saved, ALONE, *_pair(0))


def test_the_checkpoint_before_a_damaged_one_is_taken_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for step in (1, 2, 3):
        save_checkpoint(step_folder(tmp_path, step), ALONE, *_pair(step), _state(step))
        drop_old(tmp_path, None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000002", "step-00000003"]
    (last,) = step_folder(tmp_path, 3).glob("rank-*")
    last.write_bytes(last.read_bytes()[:-1])
    pair = _pair(0)
    assert load_last(tmp_path, ALONE, *pair, _no_check) == _state(2)
    assert _same(_content(*pair), _content(*_pair(2)))
    said = capsys.readouterr().err
    assert str(last) in said
    assert "before step-00000003" in said
    # Training comes by the damaged one again and heals it.
    save_checkpoint(step_folder(tmp_path, 3), ALONE, *_pair(3), _state(3))
    assert load_last(tmp_path, ALONE, *pair, _no_check) == _state(3)
    for path in tmp_path.glob("step-*/rank-*"):
        path.write_bytes(b"")
    with pytest.raises(RunError, match=r"No whole checkpoint is left; delete .* first step"):
        load_last(tmp_path, ALONE, *pair, _no_check)


def test_a_checkpoint_that_was_never_finished_is_passed_over(
    saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    half = step_folder(saved.parent, 4)
    half.mkdir()
    (half / ".rank-00000.tmp").write_bytes(b"half")
    assert find_last(saved.parent) == saved
    assert load_last(saved.parent, ALONE, *_pair(0), _no_check) == _state(3)
    assert "step-00000004: was not finished" in capsys.readouterr().err


class _Payload:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, ("executed",)


def test_a_pickle_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = step_folder(tmp_path / "checkpoints", 4)
    folder.mkdir(parents=True)
    for name in (".metadata", "memory.json", "__0_0.distcp"):
        (folder / name).write_bytes(pickle.dumps(_Payload()))
    with pytest.raises(RunError, match="is a checkpoint of an earlier version") as caught:
        load_last(folder.parent, ALONE, *_pair(0), _no_check)
    assert "\n" not in str(caught.value)
    # Beside a whole checkpoint it is a file like any other.
    save_checkpoint(folder, ALONE, *_pair(3), _state(4))
    assert load_last(folder.parent, ALONE, *_pair(0), _no_check) == _state(4)
    assert not (tmp_path / "executed").exists()


def test_another_shape_is_one_line(saved: Path) -> None:
    with pytest.raises(
        RunError, match=r"0\.weight must have shape \[6, 3\]; got \[5, 3\]"
    ) as caught:
        load_checkpoint(saved, ALONE, *_pair(0, width=6))
    assert "\n" not in str(caught.value)


def test_another_dtype_and_other_names_are_one_line(saved: Path) -> None:
    model, _ = _pair(0)
    with pytest.raises(RunError, match=r"must be torch\.float64; got torch\.float32"):
        load_checkpoint(saved, ALONE, model.double(), None)
    with pytest.raises(RunError, match=r"holds no tensor model\.weight"):
        load_checkpoint(saved, ALONE, torch.nn.Linear(3, 5), None)


def test_best_weights_stay_as_long_as_a_checkpoint_names_them(tmp_path: Path) -> None:
    for step, best in ((1, 1), (2, 1), (3, 3), (4, 3), (5, 5)):
        if step == best:
            save_checkpoint(best_folder(tmp_path, step), ALONE, _pair(step)[0], None, {})
            drop_old(tmp_path, best)
        if step < 5:
            save_checkpoint(step_folder(tmp_path, step), ALONE, *_pair(step), _state(step, best))
            drop_old(tmp_path, best)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["best-00000003", "best-00000005", "step-00000003", "step-00000004"]


def test_damaged_best_weights_come_from_the_step_or_are_refused(tmp_path: Path) -> None:
    save_checkpoint(best_folder(tmp_path, 3), ALONE, _pair(3)[0], None, {})
    (best,) = best_folder(tmp_path, 3).glob("rank-*")
    best.write_bytes(b"")
    with pytest.raises(RunError, match="weights of step 3, the best, are lost"):
        load_best(tmp_path, ALONE, _pair(0)[0], 3)
    save_checkpoint(step_folder(tmp_path, 3), ALONE, *_pair(3), _state(3))
    model, _ = _pair(0)
    load_best(tmp_path, ALONE, model, 3)
    assert torch.equal(model[1].weight, _pair(3)[0][1].weight)  # type: ignore[index]


EVENTS = {"os.rename", "os.remove", "os.rmdir", "os.truncate", "os.mkdir", "shutil.rmtree", "open"}


def _child(work: Callable[[], None], kill_at: int) -> int:
    """Do the work in a fork that kills itself before its `kill_at`-th touch of the disk."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    touched = 0

    def hook(event: str, _: tuple[Any, ...]) -> None:
        nonlocal touched
        if event in EVENTS:
            touched += 1
            if touched == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    work()
    os._exit(0)


def test_a_kill_at_any_touch_of_the_disk_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    old, new, loaded = _pair(2), _pair(3), _pair(0)
    results = set()
    for kill_at in range(1, 200):
        root = tmp_path / str(kill_at)
        save_checkpoint(step_folder(root, 1), ALONE, *old, _state(1, 1))
        save_checkpoint(best_folder(root, 1), ALONE, old[0], None, {})
        save_checkpoint(step_folder(root, 2), ALONE, *old, _state(2, 1))

        def replace_all(root: Path = root) -> None:
            save_checkpoint(step_folder(root, 2), ALONE, *new, _state(3, 1))  # the same name
            save_checkpoint(best_folder(root, 1), ALONE, new[0], None, {})
            save_checkpoint(step_folder(root, 3), ALONE, *new, _state(4, 1))
            drop_old(root, 1)

        ended = _child(replace_all, kill_at)
        state = load_last(root, ALONE, *loaded, _no_check)
        assert state is not None
        step = state["totals"]["step"]
        expected = old if step == 2 else new
        assert _same(_content(*loaded), _content(*expected)), kill_at
        load_best(root, ALONE, loaded[0], 1)
        results.add(step)
        # What the kill left behind is in nobody's way.
        replace_all()
        assert load_last(root, ALONE, *loaded, _no_check) == _state(4, 1)
        assert sorted(path.name for path in root.iterdir()) == [
            "best-00000001",
            "step-00000002",
            "step-00000003",
        ]
        if ended == 0:
            break
        assert ended == -signal.SIGKILL
    assert ended == 0
    assert kill_at > 20
    assert results == {2, 3, 4}


@pytest.mark.parametrize(
    ("written", "read"),
    [((0, 5), (0, 2, 5)), ((0, 3, 5), (0, 5)), ((0, 2, 4, 5), (0, 3, 3, 5)), ((0, 5), (0, 5))],
    ids=["one to two", "two to one", "three to three others, one empty", "one to one"],
)
def test_parts_are_read_by_other_ranks(
    written: tuple[int, ...], read: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = torch.arange(10.0).view(5, 2)
    bounds = (0, 0)

    def local_part(tensor: torch.Tensor) -> tuple[torch.Tensor, list[int]]:
        return (tensor, []) if tensor.dim() == 0 else (tensor[slice(*bounds)], [bounds[0], 0])

    monkeypatch.setattr(shards, "local_part", local_part)
    listing: dict[str, Any] = {}
    for rank, bounds in enumerate(itertools.pairwise(written)):  # noqa: B007 - read by local_part
        ranks = Ranks(rank, len(written) - 1, ALONE.device)
        monkeypatch.setattr(shards, "DTensor", torch.Tensor)
        listing |= shards.write_shards(tmp_path, ranks, [("a", whole)], {})
    reader = ShardReader(tmp_path, listing)
    assert reader.shape("a") == [5, 2]
    found = torch.full((5, 2), -1.0)
    for bounds in itertools.pairwise(read):  # noqa: B007 - read by local_part
        reader.fill("a", found)
    assert torch.equal(found, whole)


def test_a_rank_writes_many_small_files_instead_of_a_large_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "MAX_FILE_BYTES", 40)
    folder = step_folder(tmp_path, 3)
    save_checkpoint(folder, ALONE, *_pair(3), _state(3))
    files = list(folder.glob("rank-*"))
    assert len(files) > 3
    for path in files:
        with safe_open(path, framework="pt") as file:
            sizes = [file.get_tensor(name).nbytes for name in file.keys()]  # noqa: SIM118
        assert sum(sizes) - max(sizes) < 40
    pair = _pair(0)
    load_checkpoint(folder, ALONE, *pair)
    assert _same(_content(*pair), _content(*_pair(3)))
