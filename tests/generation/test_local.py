# ruff: noqa: E501
"""The transformers back end: the texts of plain `generate`, whatever stands beside them."""

import random

import numpy as np
import pytest
import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from leadspan.config import SamplingConfig
from leadspan.errors import DataError
from leadspan.generation import local
from leadspan.generation.local import (
    TransformersBackend,
    choose_sampled,
    compute_uniforms,
    generate,
)
from leadspan.generation.requests import Request, seed_of
from tests.conftest import build_tiny_model, build_tiny_tokenizer

TOKENIZER = build_tiny_tokenizer()
SMALL = {
    "vocab_size": len(TOKENIZER), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "initializer_range": 0.3,
    "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None, "max_position_embeddings": 512,
}  # fmt: skip


def build(family):
    torch.manual_seed(0)
    if family == "qwen3":
        return build_tiny_model(len(TOKENIZER), seed=1).eval()
    if family == "qwen3-wide":  # a head wider than the vocabulary
        return Qwen3ForCausalLM(Qwen3Config(**{**SMALL, "vocab_size": len(TOKENIZER) + 13})).eval()
    if family == "llama":
        return LlamaForCausalLM(LlamaConfig(**SMALL)).eval()
    if family == "mistral-window":
        return MistralForCausalLM(MistralConfig(**SMALL, sliding_window=6)).eval()
    return Gemma2ForCausalLM(
        Gemma2Config(**SMALL, sliding_window=6, query_pre_attn_scalar=8)
    ).eval()


def requests(count, seed=0):
    pick = random.Random(seed)
    return [
        Request(
            f"r{n}",
            tuple(pick.randrange(4, len(TOKENIZER)) for _ in range(pick.randrange(1, 20))),
            seed=n,
        )
        for n in range(count)
    ]


def ids_of(model, batch, wanted, **sampling):
    backend = TransformersBackend(model, TOKENIZER, SamplingConfig(**sampling), batch)
    return {completion.key: completion.token_ids for completion in backend.generate(wanted)}


def plain_generate(model, request, max_new_tokens):
    with torch.inference_mode():
        ids = model.generate(
            torch.tensor([request.prompt_ids]), max_new_tokens=max_new_tokens, do_sample=False,
            eos_token_id=1, pad_token_id=0, suppress_tokens=list(range(len(TOKENIZER), model.config.vocab_size)) or None,
        )  # fmt: skip
    return tuple(ids[0, len(request.prompt_ids) :].tolist())


@pytest.mark.parametrize("family", ["qwen3", "qwen3-wide", "llama", "mistral-window", "gemma2"])
def test_greedy_texts_are_those_of_plain_generate(family):
    model, wanted = build(family), requests(12)
    found = ids_of(model, 5, wanted, max_new_tokens=24)
    assert found == {request.key: plain_generate(model, request, 24) for request in wanted}
    assert len(set(found.values())) > 6


@pytest.mark.parametrize("options", [{"top_p": 1.0}, {"top_p": 0.8}, {"top_k": 5}])
def test_a_sample_is_the_same_alone_and_in_a_batch(options):
    model, wanted = build("qwen3"), requests(33)
    sampling = {"max_new_tokens": 30, "sampling_temperature": 1.0, **options}
    together = ids_of(model, 32, wanted, **sampling)
    alone = {}
    for request in wanted[:8]:
        alone |= ids_of(model, 1, [request], **sampling)
    assert alone == {key: together[key] for key in alone}
    other = [Request(r.key, r.prompt_ids, seed=r.seed + 1000) for r in wanted]
    assert ids_of(model, 32, other, **sampling) != together


@pytest.mark.parametrize("rows", [1, 3])
def test_choosing_a_few_rows_at_a_time_changes_no_bit(rows, monkeypatch):
    model, wanted = build("qwen3-wide"), requests(10)
    sampling = SamplingConfig(max_new_tokens=20, sampling_temperature=1.0, top_p=0.9)

    def written():
        answers = generate(
            model, wanted, sampling, (1,), 8, vocab_size=len(TOKENIZER), with_entropies=True
        )
        return {one.request.key: (one.token_ids, one.entropies) for one in answers}

    sizes = []
    choose = choose_sampled

    def noted(logits_BV, *arguments):
        sizes.append(len(logits_BV))
        return choose(logits_BV, *arguments)

    monkeypatch.setattr(local, "choose_sampled", noted)
    together = written()
    assert max(sizes) == 8
    sizes.clear()
    monkeypatch.setattr(local, "CHOICE_BYTES", rows * len(TOKENIZER) * 4)
    assert written() == together
    assert max(sizes) == rows


@pytest.mark.parametrize("family", ["qwen3", "mistral-window"])
def test_a_prompt_is_read_once_for_its_samples(family):
    model = build(family)
    prompts = {request.prompt_ids for request in requests(5) if len(request.prompt_ids) > 1}
    # The samples of a prompt are asked for far from one another.
    wanted = [
        Request(f"{n}#{sample}", prompt, seed=seed_of(n, sample))
        for sample in range(3)
        for n, prompt in enumerate(sorted(prompts))
    ]
    read = []

    def note(module, arguments, options):
        if options["input_ids"].shape[1] > 1:
            read.extend(map(tuple, options["input_ids"].tolist()))

    sampling = {"max_new_tokens": 20, "sampling_temperature": 1.0}
    alone = {}
    for request in wanted:
        alone |= ids_of(model, 1, [request], **sampling)
    hook = model.model.register_forward_pre_hook(note, with_kwargs=True)
    together = ids_of(model, len(wanted), wanted, **sampling)
    hook.remove()
    assert together == ids_of(model, 4, wanted, **sampling) == alone
    assert len(set(alone.values())) > len(prompts)
    assert len(read) == len(prompts) > 2


def test_rows_are_refilled_and_each_has_its_own_limit():
    model = build("qwen3")
    wanted = [
        Request(r.key, r.prompt_ids, max_new_tokens=1 + n % 9) for n, r in enumerate(requests(40))
    ]
    found = ids_of(model, 4, wanted, max_new_tokens=3)
    assert len(found) == 40
    for request in wanted:
        assert found[request.key] == plain_generate(model, request, request.max_new_tokens)


def test_long_answers_grow_the_cache():
    found = list(generate(build("qwen3"), requests(3), SamplingConfig(max_new_tokens=400), (), 2))
    assert [(len(one.token_ids), one.stopped) for one in found] == [(400, False)] * 3


def test_text_keeps_markers_and_drops_the_end_token(monkeypatch):
    think, end = TOKENIZER.convert_tokens_to_ids(["</think>", "<end>"])
    forced = iter([think, 10, end])
    monkeypatch.setattr(local, "choose_greedy", lambda _: torch.tensor([next(forced)]))
    backend = TransformersBackend(build("qwen3"), TOKENIZER, SamplingConfig(max_new_tokens=4), 4)
    (completion,) = backend.generate([Request("a", (5,))])
    assert completion.text == TOKENIZER.decode([think, 10])
    assert completion.text.startswith("</think>")
    assert (completion.finish_reason, completion.num_tokens) == ("stop", 3)


def test_a_model_in_training_samples_in_place_and_goes_on_training():
    model, sampling = build("qwen3"), SamplingConfig(max_new_tokens=20, sampling_temperature=1.0)
    wanted = [
        Request(f"{r.key}#{n}", r.prompt_ids, seed=seed_of(7, r.key, n))
        for r in requests(6)
        for n in range(2)
    ]
    expected = {a.request.key: a.token_ids for a in generate(model, wanted, sampling, {1}, 1)}
    assert len(set(map(tuple, expected.values()))) == 12
    model.train()
    model.config.attention_dropout = 0.5
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.5
    model.model.layers[0].eval()  # as a frozen part would be
    model.model.embed_tokens.requires_grad_(False)
    modes = [module.training for module in model.modules()]
    grads = [parameter.requires_grad for parameter in model.parameters()]
    weights = [parameter.data_ptr() for parameter in model.parameters()]
    found = {}
    for answer in generate(model, wanted, sampling, {1}, 5):
        found[answer.request.key] = answer.token_ids
        assert torch.is_grad_enabled()
        assert [module.training for module in model.modules()] == modes
    assert found == expected
    assert [parameter.requires_grad for parameter in model.parameters()] == grads
    assert [parameter.data_ptr() for parameter in model.parameters()] == weights
    answers = generate(model, wanted, sampling, {1}, 5)
    next(answers)
    answers.close()
    assert [module.training for module in model.modules()] == modes
    model(input_ids=torch.tensor([[5, 6, 7]])).logits.sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_refusals():
    backend = TransformersBackend(build("qwen3"), TOKENIZER, SamplingConfig(), 4)
    with pytest.raises(DataError, match="prompt must not be empty"):
        list(backend.generate([Request("a")]))
    assert list(backend.generate([])) == []
    model = build("qwen3")
    model.config.layer_types = ["linear_attention", "full_attention"]
    with pytest.raises(DataError, match="linear_attention"):
        list(generate(model, requests(1), SamplingConfig(), ()))


def test_sampling_follows_the_distribution():
    logits = torch.tensor([[0.0, 1.0, 2.0, -1.0]]).expand(20_000, 4)
    uniforms = torch.from_numpy(compute_uniforms(0, 20_000))
    drawn = torch.bincount(choose_sampled(logits, uniforms, 0.7), minlength=4) / 20_000
    assert np.allclose(drawn, torch.softmax(logits[0] / 0.7, -1), atol=0.012)
    nucleus = torch.bincount(choose_sampled(logits, uniforms, 0.7, top_p=0.75), minlength=4)
    # exp(2/.7) alone holds 0.76 of the mass.
    assert nucleus.tolist() == [0, 0, 20_000, 0]
    two = torch.bincount(choose_sampled(logits, uniforms, 0.7, top_k=2), minlength=4) / 20_000
    assert np.allclose(two[[1, 2]], torch.softmax(logits[0, 1:3] / 0.7, -1), atol=0.012)
    assert two[0] == two[3] == 0
