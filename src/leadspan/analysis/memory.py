"""Peak memory of a training step by part, from sizes alone. Pure arithmetic; knows no device.

The bytes kept for the backward pass per token and layer were read off Hugging Face's Qwen3, Llama
and Gemma layers under torch autograd (SDPA or flash attention, which keep no T x T matrix) and are
exact for those; `benchmarks/cost.py` measures predicted against measured peaks.

Letters: H hidden, Q heads * head_dim, K kv_heads * head_dim, I intermediate, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal

from leadspan.flops import ModelShape
from leadspan.sizes import count_parameters

GIB = 1024**3
Compute = Literal["autocast", "float32", "bfloat16"]
"""float32 weights computed in bfloat16, or one dtype throughout."""

_FLOAT, _HALF = 4, 2
_CHUNK_BYTES = {"cpu": 256 * 2**20, "cuda": 1024 * 2**20}
"""Budget of the fused loss for its logits, as `losses.fused` sets it."""


@dataclass(frozen=True, slots=True)
class MemoryParts:
    """Bytes at the moment of the peak, by part."""

    weights: int = 0
    gradients: int = 0
    optimizer: int = 0
    activations: int = 0
    """What the backward pass needs, with the bfloat16 copies of the weights under autocast."""
    loss: int = 0
    """Logits of one chunk, and the head's gradient buffers."""
    teacher: int = 0
    """Weights and hidden rows of a live teacher, or the rows read from a cache."""
    rollouts: int = 0
    """Keys and values of rollouts that are being written: no gradient or activation is held then."""

    @property
    def total(self) -> int:
        """All parts."""
        return sum(getattr(self, part.name) for part in fields(self))

    def in_gib(self) -> dict[str, float]:
        """Each part and the total, in GiB."""
        parts = {part.name: getattr(self, part.name) / GIB for part in fields(self)}
        return {**parts, "total": self.total / GIB}


@dataclass(frozen=True, slots=True)
class StepShape:
    """What the heaviest forward pass of a run looks like, and how it is computed."""

    rows: int
    """Sequences side by side."""
    tokens: int
    """Padded tokens of one row."""
    scored: int
    """Labels in the whole pass."""
    passes_per_step: int = 1
    """With more than one, gradients are held during the next forward pass."""
    compute: Compute = "autocast"
    gradient_checkpointing: bool = False
    lora_rank: int | None = None
    device: Literal["cpu", "cuda"] = "cuda"

    @property
    def padded_tokens(self) -> int:
        """Of the whole pass."""
        return self.rows * self.tokens

    @property
    def weight_bytes(self) -> int:
        """Of one master weight."""
        return _HALF if self.compute == "bfloat16" else _FLOAT


@dataclass(frozen=True, slots=True)
class TeacherMemory:
    """A teacher as it stands in memory."""

    shape: ModelShape | None = None
    """Of a live teacher."""
    weight_bytes: int = _HALF
    cache_bytes_per_row: int = 0
    """Of a cache."""


def activation_bytes_per_token(shape: ModelShape, compute: Compute) -> float:
    """Bytes that one layer keeps for the backward pass, per token."""
    wide = _HALF if compute == "bfloat16" else _FLOAT
    narrow = _FLOAT if compute == "float32" else _HALF
    query, key = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    # Two norms keep their input widened, their normalised and scaled output; linear inputs are kept
    # in the compute dtype.
    hidden = {"autocast": 26, "float32": 24, "bfloat16": 16}[compute] * shape.hidden
    if shape.post_norm:
        hidden += {"autocast": 18, "float32": 16, "bfloat16": 12}[compute] * shape.hidden
    attention = 2 * narrow * query + 2 * narrow * key + _FLOAT * shape.heads
    if shape.qk_norm:
        attention += (_FLOAT + narrow) * (query + key) + _FLOAT * (shape.heads + shape.kv_heads)
    return hidden + attention + 4 * narrow * shape.intermediate + 2 * wide


def predict_memory(
    shape: ModelShape, step: StepShape, teachers: Sequence[TeacherMemory] = ()
) -> MemoryParts:
    """Memory at the peak of a step: end of the forward pass, start or end of the backward pass.

    Args:
        shape: Of the student.
        step: What it computes at a time.
        teachers: All that are held; one of them teaches at a time.
    """
    counted = count_parameters(shape)
    trained = counted.total if step.lora_rank is None else _adapter_parameters(shape, step)
    weights = counted.total * step.weight_bytes
    weights += 0 if step.lora_rank is None else trained * _FLOAT
    gradient_bytes = trained * (step.weight_bytes if step.lora_rank is None else _FLOAT)
    held = gradient_bytes if step.passes_per_step > 1 else 0
    teacher_bytes = sum(map(_held_bytes, teachers))
    teacher_bytes += max((_row_bytes(teacher) * step.scored for teacher in teachers), default=0)
    layer = activation_bytes_per_token(shape, step.compute) * step.padded_tokens
    copies = _HALF * counted.linear if step.compute == "autocast" else 0
    kept = _kept(shape, step, layer)
    wide = step.weight_bytes
    outer = 4 * wide * shape.hidden * step.padded_tokens
    head_gradient = 0 if step.lora_rank else _FLOAT * shape.vocabulary * shape.hidden
    is_dense = any(teacher.shape is not None for teacher in teachers)
    chunk = _chunk_bytes(shape, step, is_dense)
    rows = 3 * _FLOAT * step.scored * shape.hidden
    backward = (6 * shape.intermediate + 2 * wide * shape.hidden) * step.padded_tokens
    one_layer = layer + copies / shape.layers
    copies_kept = 0 if step.gradient_checkpointing else copies
    # Of a checkpointed model one layer at a time is whole again; of another one, all are.
    turning = one_layer if step.gradient_checkpointing else copies + backward
    moments = (
        (held, kept + copies_kept + outer, head_gradient + rows + chunk),
        (held, kept + outer + turning, head_gradient + rows),
        (gradient_bytes, one_layer + outer / 4, head_gradient),
    )
    gradients, activations, loss = max(moments, key=sum)
    return MemoryParts(
        weights=weights,
        gradients=int(gradients),
        optimizer=2 * gradient_bytes,
        activations=int(activations),
        loss=int(loss),
        teacher=teacher_bytes,
    )


def _kept(shape: ModelShape, step: StepShape, layer: float) -> float:
    """What all layers keep until the backward pass."""
    if not step.gradient_checkpointing:
        return shape.layers * layer
    return shape.layers * step.weight_bytes * shape.hidden * step.padded_tokens


def _adapter_parameters(shape: ModelShape, step: StepShape) -> int:
    width = sum(inputs + outputs for inputs, outputs in shape.linears)
    return shape.layers * (step.lora_rank or 0) * width


def _chunk_bytes(shape: ModelShape, step: StepShape, is_dense: bool) -> int:
    """Logits of one chunk, and copies of the heads in the compute dtype."""
    buffers = 2 if is_dense else 1
    budget = _CHUNK_BYTES[step.device]
    rows = min(step.scored, max(1, budget // (shape.vocabulary * _FLOAT * buffers)))
    narrow = _FLOAT if step.compute == "float32" else _HALF
    # The probabilities of a whole chunk stand beside its logits on a GPU, of a small block on a CPU.
    extra = _FLOAT if is_dense and step.device == "cuda" else 0
    cast = 0 if narrow == _FLOAT else _HALF
    logits = rows * shape.vocabulary * (_FLOAT * buffers + extra + cast)
    copy = _HALF * shape.vocabulary * shape.hidden if step.compute == "autocast" else 0
    return logits + copy


def _held_bytes(teacher: TeacherMemory) -> int:
    """Weights of a live teacher."""
    if teacher.shape is None:
        return 0
    return count_parameters(teacher.shape).total * teacher.weight_bytes


def _row_bytes(teacher: TeacherMemory) -> int:
    """What it says of one scored token."""
    return teacher.cache_bytes_per_row if teacher.shape is None else _HALF * teacher.shape.hidden
