"""Load teacher, student and tokenizer, check that they fit together, write the student out.

The only file that talks to transformers about models. Knows nothing about traces or losses.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leadspan.chat import ChatMessage, ChatTemplate, choose_template, special_tokens, with_parts
from leadspan.config import LoraConfig, ModelConfig, RenderConfig, StudentConfig, TeacherConfig
from leadspan.errors import ConfigError, DataError
from leadspan.extras import check_installed
from leadspan.hub import say_unread
from leadspan.integrity import check_checksums

if TYPE_CHECKING:
    import torch
    from torch import Tensor

PROBE = "leadspanprobe"
WEIGHTS = ".safetensors"


def load_tokenizer(model: ModelConfig, render: RenderConfig | None = None) -> Any:
    """Load a model's fast tokenizer at its revision, with the chat template that `render` asks for.

    The one way from a config to a tokenizer. Without `render` it keeps its own template, which only a
    caller who renders nothing may do.

    Raises:
        DataError: There is no tokenizer, or the template file cannot be read.
        DamagedError: A file of an exported student is not what was written.
    """
    from transformers import AutoTokenizer

    folder = Path(model.path)
    check_checksums(folder, skipped=WEIGHTS)
    if folder.is_dir() and not [*folder.glob("*token*"), *folder.glob("vocab*")]:
        raise DataError(
            f"{folder}: holds no tokenizer. Save one there with "
            f"tokenizer.save_pretrained({model.path!r})."
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(model.path, revision=model.revision)
    except Exception as error:  # transformers raises many kinds for one cause
        raise DataError(
            f"{model.path}: no tokenizer could be loaded ({say_unread(error)})."
        ) from None
    if render is not None and render.chat_template is not None:
        tokenizer.chat_template = choose_template(tokenizer, render)
    return tokenizer


def load_causal_lm(config: ModelConfig, device: str = "cpu") -> Any:
    """Load a causal language model in `config.dtype`, in evaluation mode, on `device`.

    On device `meta` it has its shapes and no weights, and no weight file is read.

    Raises:
        DataError: The path holds no model, or one that needs code of its own.
        DamagedError: A file of an exported student is not what was written.
    """
    import torch
    from transformers import AutoModelForCausalLM

    from leadspan.precision import resolve_dtype

    check_checksums(Path(config.path))
    options: dict[str, Any] = {}
    if device == "meta":
        return _without_weights(config)
    if isinstance(config, TeacherConfig) and config.quantization is not None:
        options["quantization_config"] = _quantization(config.quantization)
        options["device_map"] = device
    try:
        model = AutoModelForCausalLM.from_pretrained(
            config.path,
            revision=config.revision,
            dtype=getattr(torch, resolve_dtype(config.dtype, device)),
            attn_implementation=config.attention,
            **options,
        )
    except Exception as error:  # transformers raises many kinds for one cause
        raise DataError(f"{config.path}: no model could be loaded ({say_unread(error)}).") from None
    if "device_map" not in options:
        model.to(device)
    model.config.use_cache = False
    return model.eval()


def _without_weights(config: ModelConfig) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    from leadspan.precision import resolve_dtype

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(
            read_model_config(config, whole=True),
            dtype=getattr(torch, resolve_dtype(config.dtype, "cpu")),
            attn_implementation=config.attention,
        )
    model.config.use_cache = False
    return model.eval()


def _quantization(bits: str) -> Any:
    from transformers import BitsAndBytesConfig

    check_installed("bitsandbytes", f"teacher.quantization {bits}", "quantization")
    return BitsAndBytesConfig(load_in_8bit=bits == "8bit", load_in_4bit=bits == "4bit")


def load_student(config: StudentConfig, device: str = "cpu") -> Any:
    """Load the student for training, with adapters where `config.lora` asks for them."""
    model = load_causal_lm(config, device)
    if config.lora is not None:
        model = _add_lora(model, config.lora)
    return model.train()


def add_adapters(model: Any, peft_config: Any) -> Any:
    """The model with the adapters of a config of peft, the only weights that are trained."""
    import peft

    return peft.get_peft_model(model, peft_config)


def _add_lora(model: Any, config: LoraConfig) -> Any:
    check_installed("peft", "student.lora", "lora")
    import peft

    target = config.target_modules
    return add_adapters(
        model,
        peft.LoraConfig(
            task_type="CAUSAL_LM",
            r=config.rank,
            lora_alpha=config.alpha,
            lora_dropout=config.dropout,
            use_dora=config.dora,
            target_modules=target if isinstance(target, str) else list(target),
        ),
    )


def causal_lm_of(model: Any) -> Any:
    """The causal language model itself, without the adapter's wrapper around it."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def backbone_of(model: Any) -> Any:
    """The part of a causal language model that yields final hidden states, without its head."""
    return getattr(causal_lm_of(model), causal_lm_of(model).base_model_prefix)


def compute_hidden(model: Any, input_ids_BT: Tensor, positions_BT: Tensor | None = None) -> Tensor:
    """Final hidden states, [B, T, H], of sequences side by side, or packed with their positions."""
    places = {} if positions_BT is None else {"position_ids": positions_BT}
    outputs = backbone_of(model)(input_ids=input_ids_BT, use_cache=False, **places)
    hidden_BTH: Tensor = outputs.last_hidden_state
    return hidden_BTH


def odd_layers(config: Any) -> list[str]:
    """Kinds of layers whose memory of the past is more than keys and values, by name."""
    kinds = set(getattr(config, "layer_types", None) or ())
    return sorted(kinds - {"full_attention", "sliding_attention"})


def check_packing(config: Any, device: torch.device, part: str) -> None:
    """Check that a model attends to packed sequences apart, and can run them on this device.

    Args:
        config: Of the model.
        device: Where it runs.
        part: `student` or `teacher`.

    Raises:
        ConfigError: Some layer would carry its state from one sequence into the next, or there is no GPU.
    """
    odd = ", ".join(odd_layers(config))
    if odd or device.type != "cuda":
        why = f"layers of {config.model_type} are {odd}" if odd else f"the device is {device.type}"
        raise ConfigError(
            f"{part}.attention: {config._attn_implementation} packs sequences, for which this run "
            f"needs full or sliding attention on a GPU; {why}. Use sdpa."
        )


def real_vocab_size(tokenizer: Any) -> int:
    """Token ids up to the tokenizer's last; a model's head may be wider."""
    return int(max(tokenizer.get_vocab().values())) + 1


@dataclass(frozen=True, slots=True)
class SharedVocabulary:
    """The ids that two tokenizers of one family use alike: the first `size`."""

    size: int
    student_only: tuple[str, ...] = ()
    """Tokens of the student outside them, by id."""
    teacher_only: tuple[str, ...] = ()
    """Tokens of the teacher outside them, by id."""
    misread_ids: frozenset[int] = frozenset()
    """Ids outside them that stand for one token at the student and another at the teacher."""

    def __str__(self) -> str:
        said = f"{self.size:,} token ids agree one by one"
        for name, tokens in (("student", self.student_only), ("teacher", self.teacher_only)):
            if tokens:
                shown = ", ".join(map(repr, tokens[:3])) + (", ..." if len(tokens) > 3 else "")
                said += f"; the {name} alone has {len(tokens):,} more ({shown})"
        return said


def check_same_vocabulary(
    student: Any, teacher: Any, student_path: str, teacher_path: str
) -> SharedVocabulary:
    """Check that two tokenizers are of one family, and find the ids that they share.

    They are where every id up to some point stands for the same token, and what one has beyond it is
    unknown to the other or an added token of both.

    Raises:
        DataError: They are not; names the first tokens that differ.
    """
    mine, theirs = student.get_vocab(), teacher.get_vocab()
    if mine == theirs:
        return SharedVocabulary(real_vocab_size(student))
    differing = sorted(mine.items() ^ theirs.items(), key=lambda item: item[1])
    size = differing[0][1]
    by_id = [{i: token for token, i in vocab.items() if i >= size} for vocab in (mine, theirs)]
    added = student.get_added_vocab().keys(), teacher.get_added_vocab().keys()
    clashes = [
        token
        for outside, vocab, other, own in zip(
            by_id, (theirs, mine), by_id[::-1], added, strict=True
        )
        for i, token in outside.items()
        if token not in own and (token in vocab or i in other)
    ]
    if clashes or size == 0:
        names = list(dict.fromkeys(token for token, _ in differing))
        shown = "; ".join(
            f"{token!r} is {mine.get(token, 'absent')} and {theirs.get(token, 'absent')}"
            for token in names[:3]
        )
        raise DataError(
            f"student {student_path} and teacher {teacher_path}: the vocabularies must agree token by "
            f"token; {len(names)} differ, first {shown}. Use a pair of one tokenizer family."
        )
    misread = {i for i in by_id[0].keys() & by_id[1].keys() if by_id[0][i] != by_id[1][i]}
    student_only, teacher_only = (tuple(o[i] for i in sorted(o)) for o in by_id)
    return SharedVocabulary(size, student_only, teacher_only, frozenset(misread))


def check_head_width(model: Any, vocab_size: int, path: str) -> None:
    """Check that the model has a logit for each of the first `vocab_size` token ids.

    Raises:
        DataError: The head is narrower than the vocabulary.
    """
    width = model.get_output_embeddings().weight.shape[0]
    if width < vocab_size:
        raise DataError(
            f"{path}: the head must be at least as wide as the vocabulary of "
            f"{vocab_size} tokens; got {width}. Resize the token embeddings."
        )


def end_of_turn_id(tokenizer: Any) -> int:
    """Id of the token that ends an assistant turn: what the chat template writes after it, else eos.

    Raises:
        DataError: The template writes no special token there and no eos token is defined.
    """
    special = {
        token_id for token_id, token in tokenizer.added_tokens_decoder.items() if token.special
    }
    if tokenizer.chat_template is not None:
        for token_id in tokenizer.encode(_text_after_turn(tokenizer), add_special_tokens=False):
            if token_id in special:
                return int(token_id)
    if tokenizer.eos_token_id is None:
        raise DataError(
            f"{tokenizer.name_or_path}: no token ends a turn. Set tokenizer.eos_token, or use a chat "
            "template that ends the assistant's turn with a special token."
        )
    return int(tokenizer.eos_token_id)


def _text_after_turn(tokenizer: Any) -> str:
    """What the chat template writes behind an assistant turn; empty where it shows no such turn."""
    chat = ChatTemplate(tokenizer.get_chat_template(), special_tokens(tokenizer))
    turns: list[ChatMessage] = [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": PROBE},
    ]
    for shown in (turns, [with_parts(turn) for turn in turns]):
        try:
            _, found, tail = chat.render(shown, generation_prompt=False).rpartition(PROBE)
        except Exception:  # some templates take only one shape of content
            continue
        # A quote says that a list was printed as Python writes it.
        if found and '"' not in tail and "'" not in tail:
            return tail
    return ""


def read_model_config(config: ModelConfig, whole: bool = False) -> Any:
    """The text part of a model's configuration, or the whole of it, without its weights.

    Raises:
        DataError: There is none, or it cannot be read.
    """
    from transformers import AutoConfig

    check_checksums(Path(config.path), skipped=WEIGHTS)
    try:
        found = AutoConfig.from_pretrained(config.path, revision=config.revision)
        return found if whole else found.get_text_config()
    except Exception as error:  # transformers raises many kinds for one cause
        raise DataError(f"{config.path}: no config could be read ({say_unread(error)}).") from None


def read_stop_ids(config: ModelConfig) -> tuple[int, ...]:
    """The ids at which a model's generation_config stops; none where it says nothing."""
    from transformers import GenerationConfig

    try:
        found = GenerationConfig.from_pretrained(config.path, revision=config.revision).eos_token_id
    except OSError:  # there need not be one
        return ()
    return tuple(found) if isinstance(found, list) else () if found is None else (int(found),)


def export_adapter(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write the adapter alone, as peft reads it, with the tokenizer that it was trained with."""
    model.save_pretrained(folder)
    (folder / "README.md").unlink()  # peft's own, which says nothing yet
    tokenizer.save_pretrained(folder)


def export_student(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write an ordinary Hugging Face folder, adapters merged, that stops at the end of the turn."""
    model = model.merge_and_unload() if hasattr(model, "merge_and_unload") else model
    stop = end_of_turn_id(tokenizer)
    stops = [stop] + [i for i in [tokenizer.eos_token_id] if i is not None and i != stop]
    model.generation_config.eos_token_id = stops if len(stops) > 1 else stop
    pad = tokenizer.pad_token_id
    model.generation_config.pad_token_id = tokenizer.eos_token_id if pad is None else pad
    model.config.use_cache = True
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
