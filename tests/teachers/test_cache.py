"""The cache on disk: packing, shards, look-ups by content, refusals."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from leadspan.config import TeacherConfig
from leadspan.errors import CacheError
from leadspan.identity import model_fingerprint, vocabulary_fingerprint
from leadspan.losses.heads import SparseTeacher
from leadspan.runs import write_json_atomic
from leadspan.teachers.cache import Query, TeacherCache
from leadspan.teachers.cache_format import (
    IDENTITY_FILE,
    CacheIdentity,
    CapturedSequence,
    identity_json,
    pack_rows,
    read_shard,
    shard_paths,
    unpack_rows,
    write_shard,
)
from leadspan.teachers.capture import finish, merge
from leadspan.teachers.capture_live import reduce_to_topk

V, K = 300, 8


def identity(**changes: Any) -> CacheIdentity:
    base = CacheIdentity(
        teacher="teacher",
        revision=None,
        weights=None,
        dtype="float32",
        tokenizer="tokenizer",
        vocabulary="0" * 16,
        vocab_size=V,
        mode="topk",
        k=K,
    )
    return replace(base, **changes)


def logits(num_rows: int, vocab_size: int = V, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(num_rows, vocab_size, generator=generator)


def captured(trace_id: str, tokens: list[int], seed: int = 0) -> CapturedSequence:
    rows = reduce_to_topk(logits(len(tokens) - 1, seed=seed), K)
    return CapturedSequence(
        trace_id, np.array(tokens, dtype=np.int32), pack_rows(identity(), *rows)
    )


@pytest.fixture
def cache_path(tmp_path: Path) -> Path:
    """Four sequences in two shards; two share their first tokens."""
    folder = tmp_path / "cache"
    folder.mkdir()
    write_json_atomic(folder / IDENTITY_FILE, identity_json(identity()))
    write_shard(folder, [captured("a", [1, 2, 3, 4, 5], 1), captured("b", [1, 2, 3, 9, 9, 9], 2)])
    write_shard(folder, [captured("c", [7, 8], 3), captured("d", [2, 2, 2, 2], 4)])
    finish(folder, identity())
    return folder


@pytest.mark.parametrize("vocab_size", [2, 60, 256, 257, 6400, 65536, 151669, 2**20 + 1])
def test_ids_survive_packing(vocab_size: int) -> None:
    generator = torch.Generator().manual_seed(0)
    k = min(vocab_size, 7)
    ids = torch.stack([torch.randperm(vocab_size, generator=generator)[:k] for _ in range(5)])
    ids[0, 0], ids[1, 0] = vocab_size - 1, 0
    who = identity(vocab_size=vocab_size, k=k)
    flat = torch.full(ids.shape, -2.0)
    packed = pack_rows(who, ids, flat, flat[:, 0])
    assert torch.equal(unpack_rows(who, packed).topk_ids_NK, ids)


@pytest.mark.parametrize(("logprobs", "worst"), [("8bit", 1e-3), ("fp16", 1e-6)])
def test_packing_loses_little(logprobs: Any, worst: float) -> None:
    ids, exact, tail = reduce_to_topk(logits(500), K)
    who = identity(logprobs=logprobs)
    back = unpack_rows(who, pack_rows(who, ids, exact, tail))
    p = torch.cat([exact, tail[:, None]], 1).double()
    q = torch.cat([back.topk_logprobs_NK, back.tail_logprob_N[:, None]], 1).double()
    assert p.exp().sum(1).sub(1).abs().max() < 1e-5
    assert q.exp().sum(1).sub(1).abs().max() < 1e-5
    error = (p.exp() * (p - q)).sum(1)
    assert 0 < error.mean() < worst


def test_a_full_row_has_no_tail() -> None:
    who = identity(vocab_size=12, k=12)
    back = unpack_rows(who, pack_rows(who, *reduce_to_topk(logits(3, 12), 12)))
    assert (back.tail_logprob_N == -torch.inf).all()
    assert back.topk_logprobs_NK.exp().sum(1).sub(1).abs().max() < 1e-5


def test_topk_agrees_with_log_softmax() -> None:
    z = logits(20)
    expected = z.double().log_softmax(1).sort(dim=1, descending=True)
    ids, values, tail = reduce_to_topk(z.clone(), K)
    assert torch.equal(ids, expected.indices[:, :K])
    torch.testing.assert_close(values.double(), expected.values[:, :K], rtol=1e-5, atol=1e-5)
    rest = expected.values[:, K:].logsumexp(1)
    torch.testing.assert_close(tail.double(), rest, rtol=1e-5, atol=1e-5)


def test_rows_of_a_prefix_are_those_of_the_whole(cache_path: Path) -> None:
    cache = TeacherCache(cache_path)
    expected = unpack_rows(identity(), captured("b", [1, 2, 3, 9, 9, 9], 2).rows)
    tokens = np.array([1, 2, 3, 9, 9], dtype=np.int32)
    got = cache.rows(tokens, np.array([4, 1]))
    assert isinstance(got, SparseTeacher)
    assert torch.equal(got.topk_ids_NK, expected.topk_ids_NK[[4, 1]])
    assert torch.equal(got.topk_logprobs_NK, expected.topk_logprobs_NK[[4, 1]])
    assert torch.equal(got.tail_logprob_N, expected.tail_logprob_N[[4, 1]])


def test_a_shared_prefix_is_found_whatever_it_is_called(cache_path: Path) -> None:
    cache = TeacherCache(cache_path)
    for trace_id in ("a", "b", "nobody", None):
        assert cache.find(np.array([1, 2, 3, 9]), trace_id) == 1 + cache.find(
            np.array([1, 2, 3, 4])
        )
    assert len(cache) == 4
    assert cache.num_tokens == 17


@pytest.mark.parametrize(
    ("tokens", "shared"),
    [
        ([1, 2, 3, 4, 5, 6], 5),
        ([2, 3, 4, 5], 1),
        ([1, 2, 4, 5], 2),
        ([99], 0),
        ([7, 8, 8], 2),
    ],
    ids=["longer", "tail", "bridge", "unknown", "one more"],
)
def test_nothing_but_a_prefix_is_a_hit(cache_path: Path, tokens: list[int], shared: int) -> None:
    with pytest.raises(
        CacheError, match=f"prefix of a captured one; the nearest agrees for {shared} tokens"
    ):
        TeacherCache(cache_path).rows(np.array(tokens), np.array([0]), "a")


def test_positions_without_a_row_are_refused(cache_path: Path) -> None:
    cache = TeacherCache(cache_path)
    tokens = np.array([1, 2, 3, 4, 5])
    for positions in ([4], [-1], [0, 7]):
        with pytest.raises(CacheError, match=r"positions must be in \[0, 4\)"):
            cache.rows(tokens, np.array(positions))
    # Position 2 sees tokens 0..2: it may be asked for without showing the label.
    assert len(cache.rows(tokens[:3], np.array([2]))) == 1


def test_queries_are_joined_in_order(cache_path: Path) -> None:
    cache = TeacherCache(cache_path)
    one, two = np.array([2, 2, 2]), np.array([1, 2, 3, 4])
    joined = cache.rows_of([Query(one, np.array([1])), Query(two, np.array([0, 2]), "a")])
    apart = [cache.rows(one, np.array([1])), cache.rows(two, np.array([0, 2]))]
    assert torch.equal(joined.topk_ids_NK, torch.cat([part.topk_ids_NK for part in apart]))
    assert len(cache.rows_of([])) == 0


def test_an_unfinished_or_foreign_folder_is_refused(cache_path: Path, tmp_path: Path) -> None:
    with pytest.raises(
        CacheError, match=r"not a teacher cache\. Write one with `leadspan capture`"
    ):
        TeacherCache(tmp_path)
    manifest = json.loads((cache_path / "manifest.json").read_text())
    (cache_path / "manifest.json").unlink()
    with pytest.raises(CacheError, match="the capture was not finished"):
        TeacherCache(cache_path)
    manifest["identity"]["format_version"] = 99
    write_json_atomic(cache_path / "manifest.json", manifest)
    with pytest.raises(CacheError, match="format_version must be 1; got 99"):
        TeacherCache(cache_path)
    manifest["identity"] |= {"format_version": 1, "mode": "sampled"}
    write_json_atomic(cache_path / "manifest.json", manifest)
    with pytest.raises(CacheError, match="mode must be topk or hidden; got 'sampled'"):
        TeacherCache(cache_path)


def test_a_damaged_shard_is_found(cache_path: Path) -> None:
    path = shard_paths(cache_path)[0]
    read_shard(path).check()
    with path.open("r+b") as file:
        file.seek(-3, 2)
        byte = file.read(1)
        file.seek(-3, 2)
        file.write(bytes([byte[0] ^ 1]))
    with pytest.raises(CacheError, match=r"does not match its checksum\. Delete this file"):
        read_shard(path).check()
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(CacheError, match="not a whole shard"):
        TeacherCache(cache_path)
    path.unlink()
    with pytest.raises(CacheError, match="not a whole shard"):
        TeacherCache(cache_path)


def test_another_teacher_or_tokenizer_is_refused_by_name(
    cache_path: Path, tiny_tokenizer: Any, tiny_teacher: Path, tiny_student: Path
) -> None:
    cache = TeacherCache(cache_path)
    teacher = TeacherConfig(path=str(tiny_teacher))
    with pytest.raises(CacheError, match=r"captured with the tokenizer of tokenizer, whose"):
        cache.check_fits(teacher, tiny_tokenizer)

    weights = model_fingerprint(str(tiny_teacher))
    vocabulary = vocabulary_fingerprint(tiny_tokenizer)
    cache.identity = identity(teacher="big", vocabulary=vocabulary, weights=weights)
    cache.check_fits(teacher, tiny_tokenizer)  # moved, but the same weights
    with pytest.raises(CacheError, match=rf"captured from teacher big .*, not from {tiny_student}"):
        cache.check_fits(TeacherConfig(path=str(tiny_student)), tiny_tokenizer)

    cache.identity = identity(teacher="org/big", revision="abc", vocabulary=vocabulary)
    cache.check_fits(TeacherConfig(path="org/big"), tiny_tokenizer)
    cache.check_fits(TeacherConfig(path="org/big", revision="abc"), tiny_tokenizer)
    with pytest.raises(
        CacheError, match=r"from teacher org/big at abc .*, not from org/big at def"
    ):
        cache.check_fits(TeacherConfig(path="org/big", revision="def"), tiny_tokenizer)


def test_a_models_fingerprint_sees_a_change_in_one_tensor(
    tiny_teacher: Path, tmp_path: Path
) -> None:
    (tmp_path / "copy").mkdir()
    shutil.copy(tiny_teacher / "config.json", tmp_path / "copy")
    tensors = load_file(tiny_teacher / "model.safetensors")
    save_file(tensors, tmp_path / "copy" / "model.safetensors", {"format": "pt"})
    before = model_fingerprint(str(tmp_path / "copy"))
    assert before == model_fingerprint(str(tiny_teacher))
    middle = sorted(tensors)[len(tensors) // 2]
    moved = {**tensors, middle: tensors[middle] + 1e-4}  # as a merged adapter does
    save_file(moved, tmp_path / "copy" / "model.safetensors", {"format": "pt"})
    assert model_fingerprint(str(tmp_path / "copy")) != before
    assert model_fingerprint("no/such-model") is None


def test_merging_drops_what_is_there_twice(cache_path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    write_json_atomic(other / IDENTITY_FILE, identity_json(identity()))
    write_shard(other, [captured("d", [2, 2, 2, 2], 4), captured("e", [5, 6, 7], 5)])
    finish(other, identity())
    report = merge([cache_path, other], tmp_path / "both")
    assert (report.num_sequences, report.num_duplicates) == (5, 1)
    both = TeacherCache(tmp_path / "both")
    for shard in both.shards:
        shard.check()
    for tokens in ([1, 2, 3, 9, 9, 9], [2, 2, 2, 2], [5, 6, 7], [7, 8]):
        ids = np.array(tokens)
        source = TeacherCache(other if tokens[0] == 5 else cache_path)
        positions = np.arange(len(ids) - 1)
        mine, theirs = both.rows(ids, positions), source.rows(ids, positions)
        assert torch.equal(mine.topk_ids_NK, theirs.topk_ids_NK)
        assert torch.equal(mine.topk_logprobs_NK, theirs.topk_logprobs_NK)


def test_caches_of_two_kinds_are_not_merged(cache_path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    write_shard(other, [captured("e", [5, 6, 7], 5)])
    finish(other, identity(teacher="else"))
    with pytest.raises(CacheError, match="teacher is 'teacher', not 'else'"):
        merge([cache_path, other], tmp_path / "both")
