"""Four small tokenizers of different kinds, trained in a moment, and seven chat templates."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from functools import cache, wraps
from typing import Any

from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

CORPUS = [
    "Okay, let me think about the problem step by step.\n\nFirst, 12 + 30 = 42.",
    "Wait, let me check again.\n The answer is \\boxed{42}. user assistant system",
    "def f(x):\n    return x * 2\n\nis a function of x, the train runs for three hours.",
]
BYTES = pre_tokenizers.ByteLevel.alphabet()


def fresh(build: Callable[[], Any]) -> Callable[[], Any]:
    """Train once, and give every caller a copy: trainers and tests change the tokenizers they are given."""
    trained = cache(build)

    @wraps(build)
    def copied() -> Any:
        return copy.deepcopy(trained())

    return copied


def _wrapped(core: Tokenizer, **special: str) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=core, clean_up_tokenization_spaces=False, **special
    )


@fresh
def byte_level() -> Any:
    """Like Qwen: byte-level BPE, NFC, think markers as added tokens that are not special."""
    core = Tokenizer(models.BPE())
    core.normalizer = normalizers.NFC()
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=BYTES, show_progress=False
    )
    core.train_from_iterator(CORPUS, trainer)
    tokenizer = _wrapped(core, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    tokenizer.add_tokens(["<think>", "</think>"])
    return tokenizer


@fresh
def metaspace() -> Any:
    """Like Llama 2 and Mistral: a dummy space first, byte fallback, no think tokens, a bos."""
    core = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    core.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=special, show_progress=False)
    core.train_from_iterator(CORPUS, trainer)
    spec = json.loads(core.to_str())  # the byte tokens are vocabulary, not special tokens
    spec["added_tokens"] = [t for t in spec["added_tokens"] if not t["content"].startswith("<0x")]
    core = Tokenizer.from_str(json.dumps(spec))
    core.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", core.token_to_id("<s>"))]
    )
    return _wrapped(core, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


@fresh
def word_piece() -> Any:
    """Like BERT: splits at white space, which it does not keep."""
    core = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    core.normalizer = normalizers.NFC()
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.decoder = decoders.WordPiece(prefix="##", cleanup=False)
    special = ["[PAD]", "[UNK]", "[SEP]", "<think>", "</think>"]
    trainer = trainers.WordPieceTrainer(vocab_size=400, special_tokens=special, show_progress=False)
    core.train_from_iterator(CORPUS, trainer)
    return _wrapped(core, eos_token="[SEP]", pad_token="[PAD]", unk_token="[UNK]")


@fresh
def bos_adding() -> Any:
    """Like Llama 3: byte-level, adds a bos by itself, turns end in another token than the eos."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\p{N}{1,3}"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    special = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", "<|start_header_id|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=BYTES, show_progress=False
    )
    core.train_from_iterator(CORPUS, trainer)
    core.post_processor = processors.TemplateProcessing(
        single="<|begin_of_text|> $A",
        special_tokens=[("<|begin_of_text|>", core.token_to_id("<|begin_of_text|>"))],
    )
    return _wrapped(core, bos_token="<|begin_of_text|>", eos_token="<|end_of_text|>")


TOKENIZERS = {
    "byte_level": byte_level,
    "metaspace": metaspace,
    "word_piece": word_piece,
    "bos_adding": bos_adding,
}
LOSSLESS = ("byte_level", "metaspace", "bos_adding")

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEMPLATES = {
    "plain": None,
    "chatml": CHATML,
    "opens_thinking": CHATML.replace("assistant\n{% endif %}", "assistant\n<think>\n{% endif %}"),
    "eats_thinking": CHATML.replace("m.content", "m.content.split('</think>')[-1]").replace(
        "assistant\n{% endif %}", "assistant\n<think>\n{% endif %}"
    ),
    "bos_first": "{{ bos_token }}" + CHATML,
    "llama": (
        "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}\n\n"
        "{{ m.content | trim }}<|eot_id|>{% endfor %}"
        "{% if add_generation_prompt %}<|start_header_id|>assistant\n\n{% endif %}"
    ),
    "switched": CHATML.replace(
        "assistant\n{% endif %}",
        "assistant\n{% if not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}",
    ),
}
