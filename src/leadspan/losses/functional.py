"""The fused loss as functions of tensors, for a training loop of one's own.

A thin face of `losses/fused`: it picks the scored rows, names the arguments and divides by their count.
There is no second computation here. The order of arguments is that of Liger's fused linear
cross-entropy, (input, weight, target), and then the teacher's, so that a call without a teacher needs
no gap. Liger's distillation losses put the labels after the teacher instead: name the arguments when you
come from there; swapped ones are refused.

Shape suffixes: N scored tokens.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from leadspan.config import Divergence, LossConfig
from leadspan.config_io import validate
from leadspan.errors import ConfigError
from leadspan.losses.fused import fused_loss
from leadspan.losses.heads import DenseTeacher, Head, SparseTeacher, Teacher

Reduction = Literal["mean", "sum"]


def fused_linear_kd(
    student_hidden: Tensor,
    student_weight: Tensor,
    labels: Tensor,
    teacher_hidden: Tensor | None = None,
    teacher_weight: Tensor | None = None,
    student_bias: Tensor | None = None,
    teacher_bias: Tensor | None = None,
    *,
    kd_ratio: float = 0.5,
    divergence: Divergence = "forward_kl",
    beta: float = 0.5,
    entropy_threshold: float = 0.5,
    kd_temperature: float = 1.0,
    student_logit_scale: float = 1.0,
    teacher_logit_scale: float = 1.0,
    student_soft_cap: float | None = None,
    teacher_soft_cap: float | None = None,
    vocab_size: int | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
) -> Tensor:
    """(1 - kd_ratio) * CE + kd_ratio * KD from hidden states; neither model's logits are held at once.

    `...` stands for the same leading dimensions everywhere, such as [N] or [B, T]; H and G are the hidden
    sizes of student and teacher, V the width of the heads. The label shift is the caller's: pass
    `hidden[:, :-1]` with `labels[:, 1:]`. Rows whose label is `ignore_index` are never projected.

    Args:
        student_hidden: Final hidden states, after the last norm, [..., H]. Receives gradient.
        student_weight: The student's output head, [V, H]. Receives gradient.
        labels: Integer ids, [...]; `ignore_index` where a token is not scored.
        teacher_hidden: [..., G]. Detached. Not needed where `kd_ratio` is 0.
        teacher_weight: [V, G]. Detached.
        student_bias: [V]. Receives gradient.
        teacher_bias: [V]. Detached.
        kd_ratio: Weight of the distillation term, in [0, 1].
        divergence: The distillation term, by the name of its function in `leadspan.losses`.
        beta: Parameter of jsd, mixed_kl (weight of the teacher's side, as in Liger) and of skew_kl and
            reverse_skew_kl (their alpha).
        entropy_threshold: Parameter of entropy_gated_kl, in nats.
        kd_temperature: Softens both distributions; the term is multiplied by its square.
        student_logit_scale: logits = cap(scale * (hidden @ weight.T + bias)).
        teacher_logit_scale: The same for the teacher.
        student_soft_cap: c of cap(x) = c * tanh(x / c); None caps nothing.
        teacher_soft_cap: The same for the teacher.
        vocab_size: Number of tokens that both models share; later rows of both heads are left out. None
            takes all rows, of which both heads must then have the same number.
        ignore_index: Label of a token that is not scored.
        reduction: "mean" over the scored tokens of this call, or their "sum". With gradient accumulation
            take the sum and divide by the scored tokens of the whole step.

    Returns:
        Shape [], float32 (float64 for float64 rows), in nats; 0 where nothing is scored.

    Raises:
        ValueError: A setting is out of range, shapes do not fit, or a label is no token.

    Example:
        >>> hidden = student.model(input_ids).last_hidden_state[:, :-1]
        >>> with torch.no_grad():
        ...     teacher_hidden = teacher.model(input_ids).last_hidden_state[:, :-1]
        >>> loss = fused_linear_kd(
        ...     hidden, student.lm_head.weight, labels[:, 1:], teacher_hidden, teacher.lm_head.weight
        ... )
        >>> loss.backward()
    """
    where = "fused_linear_kd"
    loss = _loss_config(
        where,
        kd_ratio=kd_ratio,
        divergence=divergence,
        beta=beta,
        entropy_threshold=entropy_threshold,
        kd_temperature=kd_temperature,
    )
    student = Head(student_weight, student_bias, student_logit_scale, student_soft_cap)
    scored = _scored(where, labels, ignore_index, student_hidden=student_hidden)
    teacher = None
    if loss.kd_ratio > 0:
        if teacher_hidden is None or teacher_weight is None:
            raise ValueError(
                f"{where}: teacher_hidden and teacher_weight must be given where kd_ratio is above 0; "
                f"got None at {kd_ratio!r}. Pass kd_ratio=0 for cross-entropy alone."
            )
        if vocab_size is None and len(teacher_weight) != len(student_weight):
            raise ValueError(
                f"{where}: teacher_weight must have the {len(student_weight)} rows of student_weight; "
                f"got {len(teacher_weight)}. Pass vocab_size, the number of tokens that both share."
            )
        _check_leading(where, labels, teacher_hidden=teacher_hidden)
        head = Head(teacher_weight, teacher_bias, teacher_logit_scale, teacher_soft_cap)
        teacher = DenseTeacher(teacher_hidden.detach()[scored], head)
    return _reduced(
        where, student_hidden[scored], student, labels[scored], teacher, loss, vocab_size, reduction
    )


def fused_linear_topk_kd(
    student_hidden: Tensor,
    student_weight: Tensor,
    labels: Tensor,
    topk_ids: Tensor,
    topk_logprobs: Tensor,
    tail_logprob: Tensor,
    student_bias: Tensor | None = None,
    *,
    kd_ratio: float = 0.5,
    divergence: Divergence = "forward_kl",
    beta: float = 0.5,
    entropy_threshold: float = 0.5,
    kd_temperature: float = 1.0,
    sparse_target: Literal["tail", "renormalised"] = "tail",
    student_logit_scale: float = 1.0,
    student_soft_cap: float | None = None,
    vocab_size: int | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
) -> Tensor:
    """`fused_linear_kd` against the kept part of a distribution, as a cache or a server gives it.

    The K kept ids are classes of their own and all other tokens together are one more. What is not named
    here is as in `fused_linear_kd`.

    Args:
        student_hidden: [..., H]. Receives gradient.
        student_weight: [V, H]. Receives gradient.
        labels: Integer ids, [...].
        topk_ids: Integer ids below V, [..., K], distinct within a row. Rows that are not scored may hold
            anything.
        topk_logprobs: The teacher's natural logs of their probabilities, [..., K], of the whole
            distribution, so that they need not sum to 1; -inf marks an empty entry. Detached.
        tail_logprob: Log of the mass of all other tokens, [...]; -inf where there is none. Detached.
        student_bias: [V]. Receives gradient.
        kd_ratio: See `fused_linear_kd`.
        divergence: See `fused_linear_kd`.
        beta: See `fused_linear_kd`.
        entropy_threshold: See `fused_linear_kd`.
        kd_temperature: 1 unless the target is renormalised or K is V: a softened tail is unknown.
        sparse_target: "tail", or "renormalised": the kept part alone, scaled to sum to 1, which biases the
            student.
        student_logit_scale: See `fused_linear_kd`.
        student_soft_cap: See `fused_linear_kd`.
        vocab_size: Number of tokens; later rows of the head are left out. None takes all.
        ignore_index: See `fused_linear_kd`.
        reduction: See `fused_linear_kd`.

    Returns:
        Shape [], as in `fused_linear_kd`.

    Raises:
        ValueError: As in `fused_linear_kd`, or the kept part cannot give the distribution asked for.
    """
    where = "fused_linear_topk_kd"
    loss = _loss_config(
        where,
        kd_ratio=kd_ratio,
        divergence=divergence,
        beta=beta,
        entropy_threshold=entropy_threshold,
        kd_temperature=kd_temperature,
        sparse_target=sparse_target,
    )
    scored = _scored(
        where,
        labels,
        ignore_index,
        student_hidden=student_hidden,
        topk_ids=topk_ids,
        topk_logprobs=topk_logprobs,
    )
    if topk_ids.shape != topk_logprobs.shape or tail_logprob.shape != labels.shape:
        raise ValueError(
            f"{where}: topk_ids and topk_logprobs must have one shape [..., K], and tail_logprob that of "
            f"labels; got {_shape(topk_ids)}, {_shape(topk_logprobs)} and {_shape(tail_logprob)}."
        )
    head = Head(student_weight, student_bias, student_logit_scale, student_soft_cap)
    teacher = SparseTeacher(topk_ids[scored], topk_logprobs[scored], tail_logprob[scored])
    return _reduced(
        where, student_hidden[scored], head, labels[scored], teacher, loss, vocab_size, reduction
    )


def _reduced(
    where: str,
    hidden_NH: Tensor,
    head: Head,
    labels_N: Tensor,
    teacher: Teacher | None,
    loss: LossConfig,
    vocab_size: int | None,
    reduction: Reduction,
) -> Tensor:
    if reduction not in ("mean", "sum"):
        raise ValueError(f"{where}: reduction must be 'mean' or 'sum'; got {reduction!r}.")
    width = head.num_rows if vocab_size is None else vocab_size
    if len(labels_N):
        # One transfer from a GPU for both ends; an id past the head would be a device-side assert there.
        low, high = torch.stack(torch.aminmax(labels_N)).tolist()
        if low < 0 or high >= width:
            raise ValueError(
                f"{where}: labels must be in [0, {width}) or ignore_index; got {low if low < 0 else high}. "
                "Mark tokens that are not scored with ignore_index."
            )
    total = fused_loss(hidden_NH, head, labels_N, teacher, loss, width).total
    return total / max(1, len(labels_N)) if reduction == "mean" else total


def _scored(where: str, labels: Tensor, ignore_index: int, **rows: Tensor) -> Tensor:
    """Mask of the scored tokens, after a look at labels and at what is picked by it."""
    if labels.is_floating_point():
        raise ValueError(
            f"{where}: labels must be integer ids; got {labels.dtype} of shape {_shape(labels)}. They are "
            "the third argument, before the teacher's; name the arguments."
        )
    _check_leading(where, labels, **rows)
    return labels != ignore_index


def _check_leading(where: str, labels: Tensor, **rows: Tensor) -> None:
    for name, tensor in rows.items():
        if tensor.shape[:-1] != labels.shape:
            raise ValueError(
                f"{where}: {name} must be of shape [*labels.shape, width]; got {_shape(tensor)} with labels "
                f"of {_shape(labels)}. Shift both alike: hidden[:, :-1] with labels[:, 1:]."
            )


def _shape(tensor: Tensor) -> list[int]:
    return list(tensor.shape)


def _loss_config(where: str, **settings: Any) -> LossConfig:
    """The settings checked by the rules of run.yaml."""
    try:
        return validate(LossConfig, settings, where)
    except ConfigError as error:
        raise ValueError(str(error)) from None
