"""Two tokenizers of one family: which ids they share, and a refusal where they are of two."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from leadspan.config import ModelConfig
from leadspan.errors import DataError
from leadspan.models import SharedVocabulary, check_same_vocabulary, load_tokenizer, real_vocab_size
from tests.conftest import build_tiny_tokenizer

BASE = real_vocab_size(build_tiny_tokenizer())


def with_added(*tokens: str, special: bool = True) -> PreTrainedTokenizerFast:
    tokenizer = build_tiny_tokenizer()
    tokenizer.add_tokens(list(tokens), special_tokens=special)
    return tokenizer


@pytest.mark.parametrize(
    ("student", "teacher", "expected"),
    [
        pytest.param((), (), SharedVocabulary(BASE), id="equal"),
        pytest.param(
            (), ("<a>", "<b>"), SharedVocabulary(BASE, (), ("<a>", "<b>")), id="teacher has more"
        ),
        pytest.param(("<a>",), (), SharedVocabulary(BASE, ("<a>",)), id="student has more"),
        pytest.param(
            ("<a>", "<b>"),
            ("<a>", "<c>", "<d>"),
            SharedVocabulary(BASE + 1, ("<b>",), ("<c>", "<d>"), frozenset({BASE + 1})),
            id="each has its own after a shared one",
        ),
        pytest.param(
            ("<a>", "<b>"),
            ("<b>", "<a>"),
            SharedVocabulary(BASE, ("<a>", "<b>"), ("<b>", "<a>"), frozenset({BASE, BASE + 1})),
            id="added in another order",
        ),
    ],
)
@pytest.mark.parametrize("special", [True, False], ids=["special", "ordinary"])
def test_the_common_prefix(
    student: tuple[str, ...], teacher: tuple[str, ...], expected: SharedVocabulary, special: bool
) -> None:
    pair = with_added(*student, special=special), with_added(*teacher, special=special)
    assert check_same_vocabulary(*pair, "s", "t") == expected


def edited(folder: Path, old: str, new: str) -> PreTrainedTokenizerFast:
    build_tiny_tokenizer().save_pretrained(folder)
    path = folder / "tokenizer.json"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return load_tokenizer(ModelConfig(path=str(folder)))


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        pytest.param('"z": 29', '"Z": 29', "'z' is 29 and absent", id="another token at an id"),
        pytest.param('"z": 29', '"z": 99', "'z' is 29 and 99", id="another id for a token"),
    ],
)
def test_another_base_vocabulary_is_another_family(
    old: str, new: str, named: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="one tokenizer family") as caught:
        check_same_vocabulary(build_tiny_tokenizer(), edited(tmp_path, old, new), "s", "t")
    assert named in str(caught.value)


def test_qwen3_and_qwen25_are_one_family(shared_data: Path, tmp_path: Path) -> None:
    """Qwen2.5's tokenizer is Qwen3's without its last four added tokens."""
    qwen3, qwen25 = shared_data / "tokenizers" / "Qwen3-derived", tmp_path / "qwen25"
    shutil.copytree(qwen3, qwen25)
    path = qwen25 / "tokenizer_config.json"
    path.chmod(0o644)
    content = json.loads(path.read_text(encoding="utf-8"))
    added = content["added_tokens_decoder"]
    content["added_tokens_decoder"] = {i: t for i, t in added.items() if int(i) < 151_665}
    path.write_text(json.dumps(content), encoding="utf-8")
    student, teacher = (load_tokenizer(ModelConfig(path=str(p))) for p in (qwen25, qwen3))
    shared = check_same_vocabulary(student, teacher, "s", "t")
    assert shared.size == 151_665
    assert shared.student_only == ()
    assert shared.teacher_only == ("<tool_response>", "</tool_response>", "<think>", "</think>")
