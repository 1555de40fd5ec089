"""The world's tokenizer: a token a character, four special tokens, and a chat template.

Knows nothing about problems beyond their alphabet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from leadspan.world.problems import ALPHABET, Solution

PAD, USER, ASSISTANT, END = "<|pad|>", "<|user|>", "<|assistant|>", "<|end|>"
THINK_OPEN, THINK_CLOSE = "<think>", "</think>"
SPECIAL_TOKENS = (PAD, END, USER, ASSISTANT, THINK_OPEN, THINK_CLOSE)
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'user' -%}"
    "{{- '<|user|>' + message['content'] -}}"
    "{%- elif message['role'] == 'assistant' -%}"
    "{{- '<|assistant|>' + message['content'] + '<|end|>' -}}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)
"""The generation prompt does not open the think block: the student writes `<think>` itself."""


def build_tokenizer() -> Any:
    """Build the tokenizer; the same ids every time, `<|pad|>` is 0."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: index for index, token in enumerate((*SPECIAL_TOKENS, *ALPHABET))}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token=PAD))
    raw.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    raw.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[USER, ASSISTANT],
        model_max_length=1024,
        clean_up_tokenization_spaces=False,
    )
    # The think markers stay visible when special tokens are skipped in decoding, as in Qwen3.
    tokenizer.add_tokens([THINK_OPEN, THINK_CLOSE], special_tokens=False)
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


@dataclass(frozen=True, slots=True)
class EncodedTrace:
    """A trace as ids: the prompt as generation feeds it, then all that the model writes."""

    prompt: list[int]
    completion: list[int]


def encode_trace(tokenizer: Any, prompt: str, solution: Solution) -> EncodedTrace:
    """Encode by dictionary: in this vocabulary a character is a token, whatever stands beside it."""
    ids = tokenizer.get_vocab()
    completion = (THINK_OPEN, *solution.cot, THINK_CLOSE, *solution.answer, END)
    return EncodedTrace(
        [ids[token] for token in (USER, *prompt, ASSISTANT)], [ids[token] for token in completion]
    )


def count_tokens(prompt: str, solution: Solution) -> tuple[int, int]:
    """Tokens of the whole sequence up to the end of the derivation, and in all."""
    before_cot = len(prompt) + 3  # the user, assistant and open markers
    total = before_cot + len(solution.cot) + 1 + len(solution.answer) + 1
    return before_cot + solution.derivation_end, total
