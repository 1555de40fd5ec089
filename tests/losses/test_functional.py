"""The losses as functions of tensors: against a loop over tokens, and against the config-driven loss."""

from __future__ import annotations

import inspect
import math
from typing import Any

import pytest
import torch
from torch import Tensor

import leadspan.losses
from leadspan.config import LossConfig
from leadspan.losses import divergences, fused_linear_kd, fused_linear_topk_kd
from leadspan.losses.fused import fused_loss
from leadspan.losses.heads import DenseTeacher, Head, SparseTeacher
from tests.losses.test_divergences import DEFINITIONS, kl_loop, softmax_loop

B, T, H, G, V, K = 2, 4, 5, 7, 23, 4
LABELS = torch.tensor([[-100, 3, 22, -100], [0, -100, 7, 11]])
SCORED = [(b, t) for b in range(B) for t in range(T) if LABELS[b, t] != -100]
DIVERGENCES = list(divergences.DIVERGENCES)


def normal(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def student(bias: bool = False) -> dict[str, Tensor]:
    given = {"student_hidden": normal(0, B, T, H), "student_weight": normal(1, V, H)}
    if bias:
        given["student_bias"] = normal(2, V)
    return {name: tensor.requires_grad_() for name, tensor in given.items()}


def teacher(bias: bool = False) -> dict[str, Tensor]:
    given = {"teacher_hidden": normal(3, B, T, G), "teacher_weight": normal(4, V, G)}
    return given | ({"teacher_bias": normal(5, V)} if bias else {})


def logits_loop(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, scale: float, cap: float | None
) -> list[float]:
    """The logits of one token, one at a time."""
    values = []
    for v in range(V):
        value = math.fsum(x * w for x, w in zip(hidden.tolist(), weight[v].tolist(), strict=True))
        value = scale * (value + (0.0 if bias is None else bias[v].item()))
        values.append(value if cap is None else cap * math.tanh(value / cap))
    return values


def test_the_loss_equals_a_loop_over_tokens() -> None:
    ours, theirs = student(bias=True), teacher(bias=True)
    terms = []
    for b, t in SCORED:
        z = logits_loop(
            ours["student_hidden"][b, t], ours["student_weight"], ours["student_bias"], 0.8, 4.0
        )
        y = logits_loop(
            theirs["teacher_hidden"][b, t],
            theirs["teacher_weight"],
            theirs["teacher_bias"],
            0.5,
            6.0,
        )
        ce = -math.log(softmax_loop(z)[int(LABELS[b, t])])
        kd = 1.5**2 * kl_loop(softmax_loop(y, 1.5), softmax_loop(z, 1.5))
        assert min(ce, kd) > 0.05
        terms.append(0.7 * ce + 0.3 * kd)
    options: dict[str, Any] = {
        "kd_ratio": 0.3,
        "kd_temperature": 1.5,
        "student_logit_scale": 0.8,
        "student_soft_cap": 4.0,
        "teacher_logit_scale": 0.5,
        "teacher_soft_cap": 6.0,
    }
    total = fused_linear_kd(labels=LABELS, **ours, **theirs, **options, reduction="sum")
    mean = fused_linear_kd(labels=LABELS, **ours, **theirs, **options)
    assert total.item() == pytest.approx(math.fsum(terms), rel=1e-12)
    assert mean.item() == pytest.approx(math.fsum(terms) / len(SCORED), rel=1e-12)


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_each_divergence_equals_its_definition(divergence: Any) -> None:
    options, definition = DEFINITIONS[divergence]
    parameter = {"alpha": "beta", "beta": "beta", "threshold": "entropy_threshold"}
    settings = {parameter[name]: value for name, value in options.items()}
    ours, theirs = student(), teacher()
    expected = [
        definition(
            softmax_loop(
                logits_loop(theirs["teacher_hidden"][b, t], theirs["teacher_weight"], None, 1, None)
            ),
            softmax_loop(
                logits_loop(ours["student_hidden"][b, t], ours["student_weight"], None, 1, None)
            ),
        )
        for b, t in SCORED
    ]
    assert min(expected) > 0.05
    got = fused_linear_kd(
        labels=LABELS, **ours, **theirs, kd_ratio=1.0, divergence=divergence, **settings
    )
    assert got.item() == pytest.approx(math.fsum(expected) / len(SCORED), rel=1e-10)


@pytest.mark.parametrize("divergence", ["forward_kl", "jsd"])
def test_gradcheck(divergence: Any) -> None:
    theirs = teacher()

    def compute(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return fused_linear_kd(
            hidden,
            weight,
            LABELS,
            **theirs,
            student_bias=bias,
            divergence=divergence,
            student_soft_cap=3.0,
        )

    assert torch.autograd.gradcheck(compute, tuple(student(bias=True).values()), fast_mode=False)


def test_gradcheck_of_the_kept_part() -> None:
    kept = topk()

    def compute(hidden: Tensor, weight: Tensor) -> Tensor:
        return fused_linear_topk_kd(hidden, weight, LABELS, *kept, kd_ratio=0.6)

    assert torch.autograd.gradcheck(compute, tuple(student().values()), fast_mode=False)


def topk() -> tuple[Tensor, Tensor, Tensor]:
    """Ids, log-probabilities and tail of the teacher; rows that are not scored hold nonsense."""
    given = teacher()
    log_p = (given["teacher_hidden"] @ given["teacher_weight"].T).log_softmax(-1)
    top = log_p.topk(K)
    tail = log_p.scatter(-1, top.indices, -torch.inf).logsumexp(-1)
    unscored = LABELS == -100
    return (
        top.indices.masked_fill(unscored[..., None], -7),
        top.values.masked_fill(unscored[..., None], torch.nan),
        tail.masked_fill(unscored, torch.nan),
    )


def gradients(total: Tensor, inputs: dict[str, Tensor]) -> list[Tensor]:
    return list(torch.autograd.grad(total, list(inputs.values())))


@pytest.mark.parametrize("kind", ["dense", "topk", "none"])
def test_it_is_the_loss_of_a_config(kind: str) -> None:
    ours, theirs, kept = student(bias=True), teacher(), topk()
    mask = LABELS != -100
    loss = LossConfig(kd_ratio=0.0 if kind == "none" else 0.4, divergence="jsd", beta=0.2)
    settings: dict[str, Any] = {"kd_ratio": loss.kd_ratio, "divergence": "jsd", "beta": 0.2}
    rows = {
        "dense": DenseTeacher(theirs["teacher_hidden"][mask], Head(theirs["teacher_weight"])),
        "topk": SparseTeacher(*(part[mask] for part in kept)),
        "none": None,
    }[kind]
    expected = fused_loss(
        ours["student_hidden"][mask],
        Head(ours["student_weight"], ours["student_bias"]),
        LABELS[mask],
        rows,
        loss,
        V,
    ).total
    if kind == "topk":
        names = ("topk_ids", "topk_logprobs", "tail_logprob")
        got = fused_linear_topk_kd(
            labels=LABELS,
            **ours,
            **dict(zip(names, kept, strict=True)),
            **settings,
            reduction="sum",
        )
    else:
        got = fused_linear_kd(
            labels=LABELS,
            **ours,
            **(theirs if kind == "dense" else {}),
            **settings,
            reduction="sum",
        )
    assert got.item() > 1
    assert torch.equal(got, expected)
    for a, b in zip(gradients(got, ours), gradients(expected, ours), strict=True):
        assert b.abs().max() > 1e-3
        assert torch.equal(a, b)


def test_unscored_rows_change_nothing_and_get_no_gradient() -> None:
    ours, theirs = student(), teacher()
    before = fused_linear_kd(labels=LABELS, **ours, **theirs)
    hidden = ours["student_hidden"].detach().clone()
    hidden[LABELS == -100] = torch.nan
    other = ours | {"student_hidden": hidden.requires_grad_()}
    got = fused_linear_kd(labels=LABELS, **other, **theirs)
    assert torch.equal(got, before)
    got.backward()
    assert hidden.grad is not None
    assert hidden.grad[LABELS == -100].abs().max() == 0
    assert hidden.grad[LABELS != -100].abs().min() > 0


def test_another_index_can_mean_unscored() -> None:
    ours, theirs = student(), teacher()
    labels = LABELS.masked_fill(LABELS == -100, -1)
    assert torch.equal(
        fused_linear_kd(labels=labels, **ours, **theirs, ignore_index=-1),
        fused_linear_kd(labels=LABELS, **ours, **theirs),
    )


def test_nothing_scored_is_a_zero_in_the_graph() -> None:
    ours = student()
    got = fused_linear_kd(labels=torch.full_like(LABELS, -100), **ours, **teacher())
    assert got.item() == 0
    got.backward()
    assert all(tensor.grad is not None and tensor.grad.abs().max() == 0 for tensor in ours.values())


def test_a_head_with_padding_rows_needs_the_common_size() -> None:
    ours, theirs = student(), teacher()
    wider = theirs | {"teacher_weight": torch.cat([theirs["teacher_weight"], normal(9, 3, G)])}
    with pytest.raises(ValueError, match="teacher_weight must have the 23 rows"):
        fused_linear_kd(labels=LABELS, **ours, **wider)
    assert torch.equal(
        fused_linear_kd(labels=LABELS, **ours, **wider, vocab_size=V),
        fused_linear_kd(labels=LABELS, **ours, **theirs),
    )


def test_the_teacher_gets_no_gradient() -> None:
    theirs = {name: tensor.requires_grad_() for name, tensor in teacher().items()}
    fused_linear_kd(labels=LABELS, **student(), **theirs).backward()
    assert all(tensor.grad is None for tensor in theirs.values())


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "ratio": ({"kd_ratio": 2.0}, "kd_ratio must be at most 1; got 2.0"),
    "divergence": ({"divergence": "kl"}, "divergence must be 'forward_kl', .*; got 'kl'"),
    "beta": ({"divergence": "jsd", "beta": 0.0}, r"beta must be in \(0, 1\) for jsd"),
    "reduction": ({"reduction": "none"}, "reduction must be 'mean' or 'sum'; got 'none'"),
    "no teacher": ({"teacher_hidden": None}, "teacher_hidden and teacher_weight must be given"),
    "unshifted": ({"labels": LABELS[:, 1:]}, r"student_hidden must be of shape .* got \[2, 4, 5\]"),
    "teacher rows": ({"teacher_hidden": normal(0, T, G)}, r"teacher_hidden must be of shape"),
    "label": ({"labels": LABELS + 1}, r"labels must be in \[0, 23\) or ignore_index; got -99"),
    "high label": ({"labels": LABELS.masked_fill(LABELS == 22, 23)}, "got 23"),
    "order of liger": ({"labels": normal(3, B, T, G)}, "labels must be integer ids; .* third"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_fit_is_one_line(case: str) -> None:
    changes, message = BAD[case]
    with pytest.raises(ValueError, match=message) as caught:
        fused_linear_kd(**({"labels": LABELS} | student() | teacher() | changes))
    assert str(caught.value).startswith("fused_linear_kd: ")
    assert "\n" not in str(caught.value)


def test_kept_ids_of_another_shape_are_one_line() -> None:
    ids, logprobs, tail = topk()
    with pytest.raises(ValueError, match=r"^fused_linear_topk_kd: .* got \[2, 4, 3\], \[2, 4, 4\]"):
        fused_linear_topk_kd(
            labels=LABELS,
            topk_ids=ids[..., 1:],
            topk_logprobs=logprobs,
            tail_logprob=tail,
            **student(),
        )


def test_every_divergence_is_exported_and_documented() -> None:
    assert set(DIVERGENCES) < set(leadspan.losses.__all__)
    for name in leadspan.losses.__all__:
        function = getattr(leadspan.losses, name)
        assert "Returns:" in function.__doc__ or "Arguments, shapes and errors" in function.__doc__
        # A LossConfig has no place in the call.
        assert "LossConfig" not in str(inspect.signature(function))
