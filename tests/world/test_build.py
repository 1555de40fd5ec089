"""The files of a built world are ordinary: they load with plain transformers, and a seed decides them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from leadspan.cli.main import app
from leadspan.world.build import SHIPPED, SHIPPED_SEED, World, WorldConfig, build_world
from leadspan.world.models import ModelShape, Phase

TINY = WorldConfig(
    num_traces=8,
    num_test_problems=4,
    train_sizes=(2, 3),
    test_sizes=(2,),
    shape=ModelShape(hidden=32, intermediate=32, heads=1),
    student_phases=(
        Phase(2, 4, (1, 2), 0.01, 0.001, 1.0, 5.0, 10.0),
        Phase(2, 4, (2,), 0.01, 0.001),
    ),
    teacher_phases=(Phase(2, 4, (2,), 0.01, 0.001),),
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return build_world(tmp_path_factory.mktemp("world") / "w", seed=1, config=TINY)


def digests(world: World) -> dict[str, str]:
    return {
        str(path.relative_to(world.path)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(world.path.rglob("*"))
        if path.is_file()
    }


def test_the_same_seed_gives_the_same_files_and_another_does_not(
    world: World, tmp_path: Path
) -> None:
    again = build_world(tmp_path / "again", seed=1, config=TINY)
    assert digests(again) == digests(world)
    other = digests(build_world(tmp_path / "other", seed=2, config=TINY))
    for name in ("traces.jsonl", "test_n2.jsonl", "student/model.safetensors"):
        assert other[name] != digests(world)[name]


def test_a_whole_world_is_reused_and_one_of_other_settings_built_anew(tmp_path: Path) -> None:
    world = build_world(tmp_path / "w", seed=1, config=TINY)
    before = world.manifest.stat().st_mtime_ns
    assert build_world(tmp_path / "w", seed=1, config=TINY) == world
    assert world.manifest.stat().st_mtime_ns == before
    build_world(tmp_path / "w", seed=1, late=True, config=TINY)
    assert json.loads(world.manifest.read_text())["late"] is True
    more = dataclasses.replace(TINY, num_traces=9)
    build_world(tmp_path / "w", seed=1, config=more)
    assert len(world.traces.read_text().splitlines()) == 9


def test_a_world_that_was_not_finished_is_built_anew(world: World, tmp_path: Path) -> None:
    begun = build_world(tmp_path / "w", seed=1, config=TINY)
    begun.manifest.unlink()
    begun.traces.write_text("half a li")
    build_world(tmp_path / "w", seed=1, config=TINY)
    assert digests(begun) == digests(world)


def test_the_models_load_as_ordinary_ones_and_stop_at_the_end_token(world: World) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from leadspan.models import check_same_vocabulary, end_of_turn_id

    tokenizers = []
    for folder in (world.student, world.teacher):
        model = AutoModelForCausalLM.from_pretrained(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        tokenizers.append(tokenizer)
        assert model.config.model_type == "qwen3"
        assert tokenizer.convert_ids_to_tokens(model.generation_config.eos_token_id) == "<|end|>"
        assert model.generation_config.pad_token_id == tokenizer.pad_token_id
        assert model.get_output_embeddings().weight.shape[0] == len(tokenizer)
    assert end_of_turn_id(tokenizers[0]) == tokenizers[0].eos_token_id
    check_same_vocabulary(*tokenizers, "student", "teacher")


def test_meta_offsets_are_those_of_the_tokenizer(world: World) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(world.student)
    for line in world.traces.read_text().splitlines():
        row = json.loads(line)
        turns = [{"role": "user", "content": row["prompt"]}]
        prompt = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        meta = row["meta"]
        begun = prompt + "<think>" + row["cot"][: meta["derivation_end_char"]]
        whole = prompt + "<think>" + row["cot"] + "</think>" + row["answer"] + "<|end|>"
        assert (
            len(tokenizer.encode(begun, add_special_tokens=False)) == meta["derivation_end_token"]
        )
        assert len(tokenizer.encode(whole, add_special_tokens=False)) == meta["num_tokens"]
        assert tokenizer.decode(tokenizer.encode(whole)) == whole


def test_the_training_sees_what_a_rendered_trace_holds(world: World) -> None:
    from transformers import AutoTokenizer

    from leadspan.world.models import encode_trace
    from leadspan.world.problems import Problem, solve

    tokenizer = AutoTokenizer.from_pretrained(world.student)
    problem = Problem(4, (1, 2, 3))
    solution = solve(problem)
    parts = encode_trace(tokenizer, problem.text, solution)
    turns = [
        {"role": "user", "content": problem.text},
        {"role": "assistant", "content": f"<think>{solution.cot}</think>{solution.answer}"},
    ]
    rendered = tokenizer.apply_chat_template(turns, tokenize=True, return_dict=False)
    assert [*parts.prompt, *parts.completion] == rendered


def test_the_same_seed_does_not_disturb_the_caller_s_random_numbers(tmp_path: Path) -> None:
    import torch

    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    build_world(tmp_path / "w", seed=1, config=TINY)
    assert torch.equal(torch.rand(3), expected)


def test_the_world_s_training_loss_weighs_tokens_as_it_says(world: World) -> None:
    """Against a float64 loop over tokens, on a model whose loss is far from zero."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from leadspan.world.models import PROMPT_WEIGHT, _weighted_loss, encode_trace
    from leadspan.world.problems import Problem, solve

    tokenizer = AutoTokenizer.from_pretrained(world.student)
    model = AutoModelForCausalLM.from_pretrained(world.student)
    problem = Problem(4, (1, 2, 3))
    parts = encode_trace(tokenizer, problem.text, solve(problem))
    ids = [*parts.prompt, *parts.completion]
    tokens = tokenizer.convert_ids_to_tokens(ids)
    with torch.no_grad():
        logprobs = model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    total = weights = 0.0
    for place in range(1, len(ids)):
        weight = 1.0
        if place < len(parts.prompt):
            weight = PROMPT_WEIGHT
        elif tokens[place - 1] == "=":
            weight = 10.0
        elif tokens[place].isdigit():
            weight = 5.0
        total -= weight * float(logprobs[place - 1, ids[place]])
        weights += weight
    assert total / weights > 1.0
    phase = Phase(1, 1, (2,), 0.1, 0.1, digit_weight=5.0, result_weight=10.0)
    loss, _ = _weighted_loss(model, torch.tensor([ids]), len(parts.prompt), tokenizer, phase)
    assert loss.item() == pytest.approx(total / weights, rel=1e-5)  # float32 against float64


def test_the_shipped_models_are_the_ones_described_and_load_as_a_world(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="only the models of world 101"):
        build_world(tmp_path / "other", 102, shipped=True)
    world = build_world(tmp_path / "w", SHIPPED_SEED, shipped=True)
    before = world.manifest.stat().st_mtime_ns
    build_world(tmp_path / "w", SHIPPED_SEED, shipped=True)
    assert world.manifest.stat().st_mtime_ns == before
    assert digits_right(world, "teacher") > 0.99
    assert 0.7 < digits_right(world, "student") < 0.95
    assert sum(file.stat().st_size for file in SHIPPED.iterdir()) < 3e6


@pytest.mark.slow
def test_the_command_of_the_shipped_models_makes_models_that_behave_alike(tmp_path: Path) -> None:
    """Last bits differ between machines, and training carries them far; what was learnt does not."""
    world = build_world(tmp_path / "shipped", SHIPPED_SEED, shipped=True)
    command = json.loads((SHIPPED / "shipped.json").read_text())["command"]
    _, verb, _, *options = command.split()
    assert CliRunner().invoke(app, [verb, str(tmp_path / "w"), *options]).exit_code == 0
    anew = World(tmp_path / "w", world.test_sizes)
    assert anew.traces.read_bytes() == world.traces.read_bytes()
    for folder in ("student", "teacher"):
        assert digits_right(anew, folder) == pytest.approx(digits_right(world, folder), abs=0.03)


def digits_right(world: World, folder: str) -> float:
    """Share of the digits behind `=` in 100 traces that a model predicts."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(world.student)
    model = AutoModelForCausalLM.from_pretrained(world.path / folder)
    equals = tokenizer.convert_tokens_to_ids("=")
    right = []
    for line in world.traces.read_text(encoding="utf-8").splitlines()[:100]:
        row = json.loads(line)
        turns = [
            {"role": "user", "content": row["prompt"]},
            {"role": "assistant", "content": f"<think>{row['cot']}</think>{row['answer']}"},
        ]
        ids = tokenizer.apply_chat_template(turns, tokenize=True, return_dict=False)
        input_ids_BT = torch.tensor([ids])
        labels_T = input_ids_BT[0, 1:]
        with torch.no_grad():
            predicted_T = model(input_ids_BT).logits[0, :-1].argmax(-1)
        asked_T = input_ids_BT[0, :-1] == equals
        right += (predicted_T == labels_T)[asked_T].tolist()
    return sum(right) / len(right)
