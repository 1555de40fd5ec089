"""Loss and gradient of a block of rows, from logits, in place; knows nothing about heads or chunks.

Every divergence here is a sum over classes of f(p_c, q_c), q the student's softmax of z / T. With
u_c = q_c * df/dq_c its gradient is d/dz_j = (u_j - q_j * sum(u)) / T, times T**2. A sparse teacher
has K + 1 classes (its kept ids and the tail), a dense one V: the same formulas serve both. Log-probabilities
come from logits, never from probabilities, which underflow at exp(-104) in float32.

Logits are finite: `Projection` puts those of masked tokens at `LOG_OF_NOTHING`, which gives a divergence
that would be infinite a large finite value. Values are kept from falling below 0 by rounding; gradients
are those of the formulas.

Shape suffixes: n rows of the block, V vocabulary, K kept ids, C classes.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from leadspan.config import LossConfig
from leadspan.losses.divergences import LOG_OF_NOTHING


def exp_in_place(logits_nV: Tensor) -> tuple[Tensor, Tensor]:
    """Overwrite logits by exp(logit - m); gives m, each row's largest, and the row's sum, both [n].

    log(sum) + m is the logsumexp, -inf for a row that is masked throughout.
    """
    max_n = logits_nV.amax(1).clamp_(min=torch.finfo(logits_nV.dtype).min)
    logits_nV.sub_(max_n[:, None]).exp_()
    return max_n, logits_nV.sum(1)


def cross_entropy_block(student_nV: Tensor, labels_n: Tensor) -> Tensor:
    """-log q(label), shape [n]; the logits become their gradient."""
    label_logits_n = student_nV.gather(1, labels_n[:, None]).squeeze(1)
    max_n, total_n = exp_in_place(student_nV)
    student_nV.mul_(total_n.reciprocal()[:, None])
    _subtract_at(student_nV, labels_n, 1.0)
    return max_n + total_n.log() - label_logits_n


def dense_block(
    student_nV: Tensor, teacher_nV: Tensor, labels_n: Tensor, loss: LossConfig
) -> tuple[Tensor, Tensor]:
    """Cross-entropy and divergence, both [n], against a whole distribution.

    Args:
        student_nV: Logits; become the gradient of (1 - kd_ratio) * CE + kd_ratio * KD.
        teacher_nV: Logits; overwritten.
        labels_n: int64 ids.
        loss: The mix.
    """
    if loss.divergence == "forward_kl" and loss.kd_temperature == 1.0:
        return _dense_forward_kl(student_nV, teacher_nV, labels_n, loss.kd_ratio)
    temperature = loss.kd_temperature
    log_q_nV = torch.log_softmax(student_nV / temperature, dim=1)
    log_p_nV = torch.log_softmax(teacher_nV.div_(temperature), dim=1)
    kd_n, u_nV = class_terms(log_p_nV, log_q_nV, loss)
    ce_n = cross_entropy_block(student_nV, labels_n)
    kd_grad_nV = u_nV.sub_(log_q_nV.exp_().mul_(u_nV.sum(1, keepdim=True)))
    student_nV.mul_(1 - loss.kd_ratio).add_(kd_grad_nV, alpha=loss.kd_ratio * temperature)
    return ce_n, kd_n.clamp_(min=0).mul_(temperature**2)


def sparse_block(
    student_nV: Tensor,
    ids_nK: Tensor,
    logprobs_nK: Tensor,
    tail_n: Tensor,
    labels_n: Tensor,
    loss: LossConfig,
) -> tuple[Tensor, Tensor, Tensor]:
    """Cross-entropy, divergence and the student's mass on the kept ids, all [n].

    The student's tail is summed by itself, not as 1 - kept, so that a small one stays exact.

    Args:
        student_nV: Logits; become the gradient of (1 - kd_ratio) * CE + kd_ratio * KD.
        ids_nK: int64 ids, distinct within a row where the log-probability is finite.
        logprobs_nK: Teacher's log-probabilities at `kd_temperature`; -inf is an empty entry.
        tail_n: Log of the rest of the teacher's mass; -inf where there is none.
        labels_n: int64 ids.
        loss: The mix.
    """
    temperature, kd_ratio = loss.kd_temperature, loss.kd_ratio
    ce_n: Tensor | None = None
    ce_grad_nV: Tensor | None = None
    if temperature != 1.0:
        ce_grad_nV = student_nV.clone()
        ce_n = cross_entropy_block(ce_grad_nV, labels_n)
        student_nV.div_(temperature)
    label_logits_n = student_nV.gather(1, labels_n[:, None]).squeeze(1)
    is_kept_nK = logprobs_nK > -torch.inf
    kept_nK = student_nV.gather(1, ids_nK).masked_fill_(~is_kept_nK, -torch.inf)
    # Added, not written: the id of an empty entry may be that of a kept one.
    student_nV.scatter_add_(
        1, ids_nK, torch.zeros_like(kept_nK).masked_fill_(is_kept_nK, -torch.inf)
    )
    tail_max_n, tail_total_n = exp_in_place(student_nV)
    classes_nC = torch.cat([kept_nK, (tail_max_n + tail_total_n.log())[:, None]], dim=1)
    lse_n = classes_nC.logsumexp(1)
    log_q_nC = classes_nC.sub_(lse_n[:, None])
    kd_n, u_nC = class_terms(torch.cat([logprobs_nK, tail_n[:, None]], dim=1), log_q_nC, loss)
    q_nC = log_q_nC.exp()
    # One pass over the vocabulary writes both terms where T is 1.
    ce_ratio = 1 - kd_ratio if ce_grad_nV is None else 0.0
    kd_grad_nC = u_nC.sub_(q_nC * u_nC.sum(1, keepdim=True))
    grad_nC = kd_grad_nC.mul_(kd_ratio * temperature).add_(q_nC, alpha=ce_ratio)
    # Tokens of the tail share its gradient as they share its mass, however small that is.
    share_n = torch.where(tail_total_n > 0, grad_nC[:, -1] / tail_total_n, 0.0)
    student_nV.mul_(share_n[:, None])
    student_nV.scatter_add_(1, ids_nK, grad_nC[:, :-1] * is_kept_nK)
    if ce_grad_nV is None:
        _subtract_at(student_nV, labels_n, ce_ratio)
        ce_n = lse_n - label_logits_n
    else:
        student_nV.add_(ce_grad_nV, alpha=1 - kd_ratio)
    assert ce_n is not None
    return ce_n, kd_n.clamp_(min=0).mul_(temperature**2), 1 - q_nC[:, -1]


def sampled_block(
    student_nV: Tensor, logprob_n: Tensor, labels_n: Tensor, loss: LossConfig
) -> tuple[Tensor, Tensor]:
    """Cross-entropy and an estimate of the reverse KL, both [n], from the labels' log-probabilities alone.

    Where the student sampled the label, log q(label) - log p(label) has the reverse KL as its mean, and
    that number times the gradient of log q(label) has the KL's gradient as its mean (the score function;
    Williams 1992). An estimate may be below 0.

    Args:
        student_nV: Logits; become the estimated gradient of (1 - kd_ratio) * CE + kd_ratio * KL(q || p).
        logprob_n: The teacher's log-probability of each label.
        labels_n: int64 ids.
        loss: Gives `kd_ratio`.
    """
    ce_n = cross_entropy_block(student_nV, labels_n)
    kd_n = -ce_n - logprob_n.clamp(min=LOG_OF_NOTHING)
    student_nV.mul_((1 - loss.kd_ratio - loss.kd_ratio * kd_n)[:, None])
    return ce_n, kd_n


def class_terms(log_p_nC: Tensor, log_q_nC: Tensor, loss: LossConfig) -> tuple[Tensor, Tensor]:
    """Value [n] and u = q * df/dq [n, C] of a divergence over classes, before any temperature."""
    log_p_nC = log_p_nC.clamp(min=LOG_OF_NOTHING)
    log_q_nC = log_q_nC.clamp(min=LOG_OF_NOTHING)
    p_nC, q_nC = log_p_nC.exp(), log_q_nC.exp()
    name: str = loss.divergence
    beta: Any = loss.beta
    if name == "entropy_gated_kl":
        entropy_n1 = -(p_nC * log_p_nC).sum(1, keepdim=True)
        name, beta = "mixed_kl", (entropy_n1 > loss.entropy_threshold).to(p_nC.dtype)
    if name == "forward_kl":
        return (p_nC * (log_p_nC - log_q_nC)).sum(1), -p_nC
    if name == "reverse_kl":
        terms_nC = q_nC * (log_q_nC - log_p_nC)
        return terms_nC.sum(1), terms_nC + q_nC
    if name == "mixed_kl":
        ahead_nC = log_p_nC - log_q_nC
        value_n = ((beta * p_nC - (1 - beta) * q_nC) * ahead_nC).sum(1)
        return value_n, (1 - beta) * q_nC * (1 - ahead_nC) - beta * p_nC
    if name == "total_variation":
        ahead_nC = q_nC - p_nC
        return ahead_nC.abs().sum(1) / 2, q_nC * ahead_nC.sign() / 2
    if name == "jsd":
        log_m_nC = _log_mix(log_p_nC, log_q_nC, beta)
        q_over_m_nC = log_q_nC - log_m_nC
        value_n = beta * (p_nC * (log_p_nC - log_m_nC)).sum(1)
        terms_nC = (1 - beta) * q_nC * q_over_m_nC
        return value_n + terms_nC.sum(1), terms_nC
    if name == "skew_kl":
        log_m_nC = _log_mix(log_p_nC, log_q_nC, beta)
        value_n = (p_nC * (log_p_nC - log_m_nC)).sum(1)
        return value_n, -(1 - beta) * p_nC * (log_q_nC - log_m_nC).exp()
    if name == "reverse_skew_kl":
        log_m_nC = _log_mix(log_q_nC, log_p_nC, beta)
        terms_nC = q_nC * (log_q_nC - log_m_nC)
        slope_nC = 1 - beta * (log_q_nC - log_m_nC).exp()
        return terms_nC.sum(1), terms_nC + q_nC * slope_nC
    raise ValueError(f"loss.divergence must be a known divergence; got {name!r}.")


def _dense_forward_kl(
    student_nV: Tensor, teacher_nV: Tensor, labels_n: Tensor, kd_ratio: float
) -> tuple[Tensor, Tensor]:
    """The common case: both terms share q, and the gradient is q - kd_ratio * p - (1 - r) * y."""
    student_max_n, teacher_max_n = student_nV.amax(1), teacher_nV.amax(1)
    label_logits_n = student_nV.gather(1, labels_n[:, None]).squeeze(1)
    p_nV = (teacher_nV - teacher_max_n[:, None]).exp_()
    teacher_total_n = p_nV.sum(1)
    ahead_n = torch.linalg.vecdot(p_nV, teacher_nV.sub_(student_nV)) / teacher_total_n
    student_nV.sub_(student_max_n[:, None]).exp_()
    student_total_n = student_nV.sum(1)
    student_lse_n = student_max_n + student_total_n.log()
    kd_n = ahead_n + student_lse_n - teacher_max_n - teacher_total_n.log()
    student_nV.mul_(student_total_n.reciprocal()[:, None])
    student_nV.addcmul_(p_nV, (-kd_ratio / teacher_total_n)[:, None])
    _subtract_at(student_nV, labels_n, 1 - kd_ratio)
    return student_lse_n - label_logits_n, kd_n.clamp_(min=0)


def _subtract_at(grad_nV: Tensor, labels_n: Tensor, amount: float) -> None:
    values_n1 = torch.full_like(labels_n[:, None], -amount, dtype=grad_nV.dtype)
    grad_nV.scatter_add_(1, labels_n[:, None], values_n1)


def _log_mix(log_a_nC: Tensor, log_b_nC: Tensor, share_of_a: float) -> Tensor:
    if share_of_a == 0:
        return log_b_nC
    return torch.logaddexp(log_a_nC + math.log(share_of_a), log_b_nC + math.log1p(-share_of_a))
