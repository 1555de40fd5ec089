"""Reference losses per token, from logits: slow, plain, and what the fused loss is tested against.

Knows nothing about heads, chunks, masks or reduction. p is the teacher, q the student; both come
from logits / kd_temperature through a log-softmax in float32 (float64 stays float64), and every
divergence is multiplied by kd_temperature**2, value and gradient alike (Hinton et al. 2015,
arXiv:1503.02531, section 2), so that its gradient keeps its size beside cross-entropy.

A token that a head masks (logit -inf) has probability 0. What would be infinite (the cross-entropy of a
masked label, a divergence from a token that only the other side masks) is given a large finite value, by
`LOG_OF_NOTHING`.

Shape suffixes: N scored tokens, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from leadspan.config import DIVERGENCE_PARAMETER, LossConfig

LOG_OF_NOTHING = -1e4
"""Stands for log(0): exp(-1e4) is 0 in float32 and float64, and 0 * 1e4 is 0 where 0 * inf is NaN."""


def cross_entropy(student_logits_NV: Tensor, labels_N: Tensor) -> Tensor:
    """Per-token -log q(label), in nats.

    Args:
        student_logits_NV: Raw logits, any float dtype. Receives gradient.
        labels_N: Integer ids in [0, V).

    Returns:
        Shape [N], float32, >= 0. Not masked, not reduced.
    """
    log_q_NV = _log_softmax(student_logits_NV, 1.0).clamp(min=LOG_OF_NOTHING)
    return -log_q_NV.gather(-1, labels_N.long()[:, None]).squeeze(-1)


def forward_kl(
    student_logits_NV: Tensor, teacher_logits_NV: Tensor, kd_temperature: float = 1.0
) -> Tensor:
    """Per-token KL(teacher || student), in nats: sum of p * log(p / q).

    Args:
        student_logits_NV: Raw logits, any float dtype. Receives gradient.
        teacher_logits_NV: Same shape. Detached.
        kd_temperature: Divides both logits; the result is multiplied by its square.

    Returns:
        Shape [N], float32, >= 0. Not masked, not reduced.

    Raises:
        ValueError: The shapes differ.
    """
    log_p_NV, log_q_NV = _log_probs(student_logits_NV, teacher_logits_NV, kd_temperature)
    return _finish(_kl(log_p_NV, log_q_NV), kd_temperature)


def reverse_kl(
    student_logits_NV: Tensor, teacher_logits_NV: Tensor, kd_temperature: float = 1.0
) -> Tensor:
    """Per-token KL(student || teacher), in nats: sum of q * log(q / p).

    Arguments, shapes and errors as in `forward_kl`.
    """
    log_p_NV, log_q_NV = _log_probs(student_logits_NV, teacher_logits_NV, kd_temperature)
    return _finish(_kl(log_q_NV, log_p_NV), kd_temperature)


def jsd(
    student_logits_NV: Tensor,
    teacher_logits_NV: Tensor,
    kd_temperature: float = 1.0,
    beta: float = 0.5,
) -> Tensor:
    """Per-token generalised Jensen-Shannon divergence, in nats.

    beta * KL(p || m) + (1 - beta) * KL(q || m) with m = beta * p + (1 - beta) * q (Agarwal et al.
    2023, arXiv:2306.13649, section 2). Its ends are 0, not the two KLs, so beta is kept inside.

    Arguments, shapes and errors as in `forward_kl`.

    Raises:
        ValueError: beta is not in (0, 1).
    """
    if not 0 < beta < 1:
        raise ValueError(
            f"jsd: beta must be in (0, 1); got {beta!r}. Use forward_kl or reverse_kl for the ends."
        )
    log_p_NV, log_q_NV = _log_probs(student_logits_NV, teacher_logits_NV, kd_temperature)
    log_m_NV = _log_mix(log_p_NV, log_q_NV, beta)
    inside_N = beta * _kl(log_p_NV, log_m_NV) + (1 - beta) * _kl(log_q_NV, log_m_NV)
    return _finish(inside_N, kd_temperature)


def skew_kl(
    student_logits_NV: Tensor,
    teacher_logits_NV: Tensor,
    kd_temperature: float = 1.0,
    alpha: float = 0.1,
) -> Tensor:
    """Per-token KL(p || alpha * p + (1 - alpha) * q), in nats; alpha 0 is forward KL.

    Ko et al. 2024, arXiv:2402.03898, equation 5. Arguments, shapes and errors as in `forward_kl`.

    Raises:
        ValueError: alpha is not in [0, 1).
    """
    _check_alpha("skew_kl", alpha)
    log_p_NV, log_q_NV = _log_probs(student_logits_NV, teacher_logits_NV, kd_temperature)
    return _finish(_kl(log_p_NV, _log_mix(log_p_NV, log_q_NV, alpha)), kd_temperature)


def reverse_skew_kl(
    student_logits_NV: Tensor,
    teacher_logits_NV: Tensor,
    kd_temperature: float = 1.0,
    alpha: float = 0.1,
) -> Tensor:
    """Per-token KL(q || alpha * q + (1 - alpha) * p), in nats; alpha 0 is reverse KL.

    Ko et al. 2024, arXiv:2402.03898, section 3.1. Arguments, shapes and errors as in `forward_kl`.

    Raises:
        ValueError: alpha is not in [0, 1).
    """
    _check_alpha("reverse_skew_kl", alpha)
    log_p_NV, log_q_NV = _log_probs(student_logits_NV, teacher_logits_NV, kd_temperature)
    return _finish(_kl(log_q_NV, _log_mix(log_q_NV, log_p_NV, alpha)), kd_temperature)


def total_variation(
    student_logits_NV: Tensor, teacher_logits_NV: Tensor, kd_temperature: float = 1.0
) -> Tensor:
    """Per-token total variation distance, in [0, kd_temperature**2]: half the sum of |p - q|.

    Arguments, shapes and errors as in `forward_kl`.
    """
    log_p_NV, log_q_NV = _log_probs(student_logits_NV, teacher_logits_NV, kd_temperature)
    distance_N = (log_p_NV.exp() - log_q_NV.exp()).abs().sum(-1) / 2
    return _finish(distance_N, kd_temperature)


def mixed_kl(
    student_logits_NV: Tensor,
    teacher_logits_NV: Tensor,
    kd_temperature: float = 1.0,
    beta: float = 0.5,
) -> Tensor:
    """Per-token beta * KL(p || q) + (1 - beta) * KL(q || p), in nats.

    beta is the weight of the forward KL. Arguments, shapes and errors as in `forward_kl`.

    Raises:
        ValueError: beta is not in [0, 1].
    """
    if not 0 <= beta <= 1:
        raise ValueError(f"mixed_kl: beta must be in [0, 1]; got {beta!r}. Write 0.5 for half.")
    log_p_NV, log_q_NV = _log_probs(student_logits_NV, teacher_logits_NV, kd_temperature)
    inside_N = beta * _kl(log_p_NV, log_q_NV) + (1 - beta) * _kl(log_q_NV, log_p_NV)
    return _finish(inside_N, kd_temperature)


def entropy_gated_kl(
    student_logits_NV: Tensor,
    teacher_logits_NV: Tensor,
    kd_temperature: float = 1.0,
    threshold: float = 0.5,
) -> Tensor:
    """Per-token KL(p || q) where the entropy of p is above the threshold, KL(q || p) elsewhere, in nats.

    arXiv:2603.07079. The entropy is that of the softened teacher. Arguments, shapes and errors as in
    `forward_kl`.

    Raises:
        ValueError: The threshold is negative.
    """
    if threshold < 0:
        raise ValueError(
            f"entropy_gated_kl: threshold must be at least 0 nats; got {threshold!r}. Write 0.5."
        )
    log_p_NV, log_q_NV = _log_probs(student_logits_NV, teacher_logits_NV, kd_temperature)
    entropy_N = -(log_p_NV.exp() * log_p_NV).sum(-1)
    forward_N, reverse_N = _kl(log_p_NV, log_q_NV), _kl(log_q_NV, log_p_NV)
    return _finish(torch.where(entropy_N > threshold, forward_N, reverse_N), kd_temperature)


DIVERGENCES: dict[str, Callable[..., Tensor]] = {
    "forward_kl": forward_kl,
    "reverse_kl": reverse_kl,
    "jsd": jsd,
    "skew_kl": skew_kl,
    "reverse_skew_kl": reverse_skew_kl,
    "total_variation": total_variation,
    "mixed_kl": mixed_kl,
    "entropy_gated_kl": entropy_gated_kl,
}


def divergence(student_logits_NV: Tensor, teacher_logits_NV: Tensor, loss: LossConfig) -> Tensor:
    """Per-token distillation term of a config, shape [N]."""
    options = {}
    if loss.divergence in DIVERGENCE_PARAMETER:
        key, parameter = DIVERGENCE_PARAMETER[loss.divergence]
        options[parameter] = getattr(loss, key)
    compute = DIVERGENCES[loss.divergence]
    return compute(student_logits_NV, teacher_logits_NV, loss.kd_temperature, **options)


def _log_softmax(logits_NV: Tensor, kd_temperature: float) -> Tensor:
    dtype = torch.promote_types(logits_NV.dtype, torch.float32)
    return torch.log_softmax(logits_NV.to(dtype) / kd_temperature, dim=-1)


def _log_probs(student_NV: Tensor, teacher_NV: Tensor, kd_temperature: float) -> tuple[Tensor, ...]:
    if student_NV.shape != teacher_NV.shape:
        raise ValueError(
            f"teacher_logits_NV: shape must be the student's {tuple(student_NV.shape)}; "
            f"got {tuple(teacher_NV.shape)}. Slice both to the common vocabulary."
        )
    both = (teacher_NV.detach(), student_NV)
    return tuple(_log_softmax(each, kd_temperature).clamp(min=LOG_OF_NOTHING) for each in both)


def _finish(divergence_N: Tensor, kd_temperature: float) -> Tensor:
    """Times T**2; rounding can put a zero at -1e-7, which the value hides and the gradient keeps."""
    below_N = divergence_N.detach().clamp(max=0)
    return kd_temperature**2 * (divergence_N - below_N)


def _kl(log_a_NV: Tensor, log_b_NV: Tensor) -> Tensor:
    return (log_a_NV.exp() * (log_a_NV - log_b_NV)).sum(-1)


def _log_mix(log_a_NV: Tensor, log_b_NV: Tensor, share_of_a: float) -> Tensor:
    if share_of_a == 0:
        return log_b_NV
    return torch.logaddexp(log_a_NV + math.log(share_of_a), log_b_NV + math.log1p(-share_of_a))


def _check_alpha(name: str, alpha: float) -> None:
    if not 0 <= alpha < 1:
        raise ValueError(f"{name}: alpha must be in [0, 1); got {alpha!r}. Write 0.1 for a tenth.")
