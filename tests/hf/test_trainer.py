"""`LeadSpanTrainer` against the loop of `leadspan train`, and what a user of Trainer expects of it."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, TrainerCallback

import leadspan
from leadspan import LeadSpanTrainer, load_traces, render, supervise
from leadspan.config import LossConfig, RunConfig, TeacherConfig
from leadspan.errors import ConfigError, DataError
from leadspan.hf.rows import Collator
from leadspan.parallel import Ranks
from leadspan.runs import RunFolder
from leadspan.teachers.capture import capture
from leadspan.teachers.capture_live import LocalBackend, build_identity
from leadspan.teachers.live import TeacherVocabulary
from leadspan.training.run import train
from tests.conftest import build_tiny_model, build_tiny_tokenizer
from tests.hf.prepared import (
    LEARNING_RATE,
    STEPS,
    arguments,
    examples,
    ordered,
    rows,
    train_by_loop,
)
from tests.teachers.scoring_stub import Stub
from tests.training.launching import torchrun
from tests.training.test_rollouts import content, write_sums

ALONE = Ranks(0, 1, torch.device("cpu"))
MEANS = ("loss", "ce_cot", "kd_answer", "grad_norm")


def teacher_keys(folder: Path) -> dict[str, str]:
    return {"path": str(folder), "dtype": "float32"}


def load(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def assert_same(history: list[dict[str, Any]], weights: dict[str, torch.Tensor], run: Any) -> None:
    """Each step's numbers and the final weights are those of the loop."""
    expected = [r for r in RunFolder(run.path).read_metrics() if r["kind"] == "train"]
    found = [record for record in history if "loss" in record]
    assert len(found) == len(expected) == STEPS
    for mine, theirs in zip(found, expected, strict=True):
        for name in MEANS:
            assert mine[name] == pytest.approx(theirs[name], rel=1e-6, abs=1e-6), name
    for name, weight in load_file(run.student_path / "model.safetensors").items():
        torch.testing.assert_close(weights[name], weight, rtol=0, atol=1e-6)


@pytest.fixture(scope="module")
def by_loop(
    tmp_path_factory: pytest.TempPathFactory, tiny_student: Path, tiny_teacher: Path
) -> Any:
    folder = tmp_path_factory.mktemp("loop") / "run"
    teacher = teacher_keys(tiny_teacher)
    return train_by_loop(
        examples(), folder, student=tiny_student, teacher=teacher, validation=examples()[:7]
    )


@pytest.fixture
def trainer(tmp_path: Path, tiny_student: Path, tiny_teacher: Path) -> LeadSpanTrainer:
    return LeadSpanTrainer(
        model=load(tiny_student),
        teacher=load(tiny_teacher),
        args=arguments(tmp_path / "out"),
        train_dataset=ordered(examples()),
        eval_dataset=rows(examples()[:7]),
        processing_class=build_tiny_tokenizer(),
    )


def test_a_live_teacher_gives_the_losses_and_weights_of_the_loop(
    trainer: LeadSpanTrainer, by_loop: Any, tmp_path: Path
) -> None:
    result = trainer.train()
    assert_same(trainer.state.log_history, trainer.model.state_dict(), by_loop)
    assert result.metrics["train_loss"] == pytest.approx(
        np.mean([r["loss"] for r in trainer.state.log_history if "loss" in r]), rel=1e-6
    )
    # 7 rows in batches of 3: the mean is over tokens, not over batches.
    validation = [r for r in RunFolder(by_loop.path).read_metrics() if r["kind"] == "validation"]
    evaluated = trainer.evaluate()
    assert evaluated["eval_loss"] == pytest.approx(validation[-1]["val_loss"], rel=1e-5)
    assert evaluated["eval_kd_answer"] == pytest.approx(validation[-1]["kd_answer"], rel=1e-5)
    # What is saved is an ordinary folder, and plain calls of the model are plain.
    trainer.save_model()
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32).eval()
    ids = torch.arange(5)[None]
    with torch.no_grad():
        assert torch.equal(saved(ids).logits, trainer.model.eval()(ids).logits)
    assert (tmp_path / "out" / "tokenizer.json").is_file()


def test_a_cache_gives_what_the_loop_makes_of_it(
    tmp_path: Path, tiny_student: Path, tiny_teacher: Path
) -> None:
    cache, whole = tmp_path / "cache", [example.sequence for example in examples(lsp=1.0)]
    tokenizer = build_tiny_tokenizer()
    config = TeacherConfig(path=str(tiny_teacher), dtype="float32")
    identity = build_identity(config, tokenizer, "topk", k=8)
    backend = LocalBackend(load(tiny_teacher).eval(), identity, ALONE.device, 400)
    capture(whole, backend, cache, ALONE)
    teacher = {**teacher_keys(tiny_teacher), "cache": str(cache)}
    run = train_by_loop(examples(), tmp_path / "run", student=tiny_student, teacher=teacher)
    trainer = LeadSpanTrainer(
        model=str(tiny_student),
        teacher_cache=cache,
        args=arguments(tmp_path / "out"),
        train_dataset=ordered(examples()),
    )
    trainer.train()
    assert_same(trainer.state.log_history, trainer.model.state_dict(), run)
    assert "teacher_mass_kept" in trainer.state.log_history[0]


def test_a_server_gives_the_losses_of_a_live_teacher(
    by_loop: Any, tmp_path: Path, tiny_student: Path, tiny_teacher: Path
) -> None:
    pytest.importorskip("openai")
    stub = Stub(load(tiny_teacher).eval())
    threading.Thread(target=stub.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{stub.server_port}/v1"
    served = {"base_url": url, "model": "big", "max_retries": 0, "k": 10_000}
    trainer = LeadSpanTrainer(
        model=load(tiny_student),
        teacher={"path": str(tiny_teacher), "endpoint": served},
        args=arguments(tmp_path),
        train_dataset=ordered(examples()),
        eval_dataset=rows(examples()[:7]),
        processing_class=build_tiny_tokenizer(),
    )
    try:
        trainer.train()
        evaluated = trainer.evaluate()
        num_asked = len(stub.bodies)
        assert trainer.evaluate()["eval_loss"] == evaluated["eval_loss"]
        assert len(stub.bodies) == num_asked  # the same rows are not asked for again
    finally:
        stub.shutdown()
        stub.server_close()
    expected = [r["loss"] for r in RunFolder(by_loop.path).read_metrics() if r["kind"] == "train"]
    losses = [record["loss"] for record in trainer.state.log_history if "loss" in record]
    assert losses == pytest.approx(expected, rel=1e-4)  # log-probabilities travel as decimals


def run_on_two_ranks(
    folder: Path, student: Path, teacher: Path, strategy: str, options: dict[str, Any]
) -> dict[str, Any]:
    module = "tests.hf.under_torchrun"
    paths = map(str, (folder, student, teacher))
    done = torchrun(2, module, *paths, strategy, json.dumps(options))
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads((folder / "found.json").read_text())
    return found


@pytest.mark.parametrize("strategy", ["ddp", "fsdp", "fsdp_all"])
def test_two_ranks_give_the_losses_and_weights_of_the_loop(
    strategy: str, by_loop: Any, tmp_path: Path, tiny_student: Path, tiny_teacher: Path
) -> None:
    found = run_on_two_ranks(tmp_path, tiny_student, tiny_teacher, strategy, {})
    assert_same(found["log"], load_file(tmp_path / "model.safetensors"), by_loop)
    # 7 rows on 2 ranks by 3: five of the last batch's are there to fill it up and count once.
    validation = [r for r in RunFolder(by_loop.path).read_metrics() if r["kind"] == "validation"]
    assert found["eval"]["eval_loss"] == pytest.approx(validation[-1]["val_loss"], rel=1e-5)


def test_adapters_are_trained_saved_and_loaded(
    tmp_path: Path, tiny_student: Path, tiny_teacher: Path
) -> None:
    peft = pytest.importorskip("peft")
    lora = {"rank": 3, "alpha": 6.0}
    run = train_by_loop(
        examples(),
        tmp_path / "run",
        student={"path": str(tiny_student), "lora": lora},
        teacher=teacher_keys(tiny_teacher),
    )
    torch.manual_seed(0)  # where the loop has drawn its adapters from
    trainer = LeadSpanTrainer(
        model=load(tiny_student),
        teacher=load(tiny_teacher),
        args=arguments(tmp_path / "out"),
        train_dataset=ordered(examples()),
        processing_class=build_tiny_tokenizer(),
        peft_config=peft.LoraConfig(
            task_type="CAUSAL_LM", r=3, lora_alpha=6.0, target_modules="all-linear"
        ),
    )
    before = trainer.model.state_dict()["base_model.model.model.embed_tokens.weight"].clone()
    trainer.train()
    losses = [record["loss"] for record in trainer.state.log_history if "loss" in record]
    expected = [r["loss"] for r in RunFolder(run.path).read_metrics() if r["kind"] == "train"]
    assert losses == pytest.approx(expected, rel=1e-5)
    assert any("lora_B" in name and w.any() for name, w in trainer.model.state_dict().items())
    after = trainer.model.state_dict()["base_model.model.model.embed_tokens.weight"]
    assert torch.equal(before, after)
    trainer.save_model()
    assert (tmp_path / "out" / "adapter_config.json").is_file()
    again = peft.PeftModel.from_pretrained(load(tiny_student), tmp_path / "out").eval()
    ids = torch.arange(5)[None]
    with torch.no_grad():
        torch.testing.assert_close(again(ids).logits, trainer.model.eval()(ids).logits)


@pytest.mark.parametrize(
    ("rollout", "kd_ratio"),
    [({"num_samples": 2}, 1.0), ({"share": 0.5, "prefix": 2}, 0.5)],
    ids=["two samples of each prompt", "half of them traces"],
)
def test_rollouts_are_those_of_the_loop(
    rollout: dict[str, Any],
    kd_ratio: float,
    tmp_path: Path,
    tiny_student: Path,
    tiny_teacher: Path,
) -> None:
    file = write_sums(tmp_path / "traces.jsonl")
    run_yaml = content(tiny_student, tiny_teacher, file, **rollout)
    run_yaml["loss"] = {"kd_ratio": kd_ratio}
    run_yaml["traces"]["validation_fraction"] = 0
    run_yaml["training"] |= {
        "steps": STEPS,
        "learning_rate": LEARNING_RATE,
        "lr_schedule": "constant",
        "warmup_fraction": 0.0,
    }
    run = train(RunConfig.model_validate(run_yaml), tmp_path / "run")
    whole = [supervise(s) for s in render(load_traces(file), build_tiny_tokenizer())]
    trainer = LeadSpanTrainer(
        model=load(tiny_student),
        teacher=load(tiny_teacher),
        args=arguments(tmp_path / "out", seed=0),
        train_dataset=ordered(whole),
        processing_class=build_tiny_tokenizer(),
        loss=LossConfig(kd_ratio=kd_ratio),
        rollout=run_yaml["rollout"],
    )
    trainer.train()
    expected = [r for r in RunFolder(run.path).read_metrics() if r["kind"] == "train"]
    found = [record for record in trainer.state.log_history if "loss" in record]
    assert len(found) == STEPS
    for mine, theirs in zip(found, expected, strict=True):
        for name in ("loss", "grad_norm"):
            assert mine[name] == pytest.approx(theirs[name], rel=1e-5), name


def test_two_ranks_write_the_rollouts_of_one(
    tmp_path: Path, tiny_student: Path, tiny_teacher: Path
) -> None:
    options = {"loss": {"kd_ratio": 1.0}, "rollout": {"horizon": 0.5}}
    trainer = LeadSpanTrainer(
        model=load(tiny_student),
        teacher=load(tiny_teacher),
        args=arguments(tmp_path / "one"),
        train_dataset=ordered(examples()),
        processing_class=build_tiny_tokenizer(),
        **options,
    )
    trainer.train()
    expected = [record["loss"] for record in trainer.state.log_history if "loss" in record]
    found = run_on_two_ranks(tmp_path, tiny_student, tiny_teacher, "ddp", options)
    losses = [record["loss"] for record in found["log"] if "loss" in record]
    assert losses == pytest.approx(expected, rel=1e-5)


def test_bfloat16_and_checkpointed_activations_change_the_loss_by_rounding(
    by_loop: Any, tmp_path: Path, tiny_student: Path, tiny_teacher: Path
) -> None:
    trainer = LeadSpanTrainer(
        model=load(tiny_student),
        teacher=load(tiny_teacher),
        args=arguments(tmp_path, bf16=True, gradient_checkpointing=True),
        train_dataset=ordered(examples()),
        processing_class=build_tiny_tokenizer(),
    )
    dtypes: set[torch.dtype] = set()
    projection = trainer.model.model.layers[0].mlp.down_proj
    projection.register_forward_hook(lambda _, inputs, output: dtypes.add(output.dtype))
    trainer.train()
    expected = [r["loss"] for r in RunFolder(by_loop.path).read_metrics() if r["kind"] == "train"]
    losses = [record["loss"] for record in trainer.state.log_history if "loss" in record]
    assert losses == pytest.approx(expected, rel=2e-2)
    assert dtypes == {torch.bfloat16}


def test_raw_rows_are_cut_by_lead_span(
    monkeypatch: pytest.MonkeyPatch,
    by_loop: Any,
    tmp_path: Path,
    tiny_student: Path,
    tiny_teacher: Path,
) -> None:
    asked: list[tuple[Any, ...]] = []

    def lead_span(dataset: Any, tokenizer: Any, lsp: float, sections: tuple[str, ...]) -> Dataset:
        asked.append((dataset, tokenizer, lsp, sections))
        return ordered(examples())

    monkeypatch.setattr(leadspan, "lead_span", lead_span, raising=False)
    raw = Dataset.from_list([{"prompt": "1+1?", "cot": "1+1=2.", "answer": "2"}])
    tokenizer = build_tiny_tokenizer()
    trainer = LeadSpanTrainer(
        model=load(tiny_student),
        teacher=load(tiny_teacher),
        args=arguments(tmp_path),
        train_dataset=raw,
        eval_dataset={"held out": rows(examples()[:7])},
        processing_class=tokenizer,
        lsp=0.95,
    )
    assert asked == [(raw, tokenizer, 0.95, ("cot", "answer"))]
    trainer.train()
    assert_same(trainer.state.log_history, trainer.model.state_dict(), by_loop)
    assert "eval_held out_ce_cot" in trainer.evaluate()


def lean(of: Any) -> Any:
    return of.remove_columns(["spans", "trace_id"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"teacher": None}, "teacher is required when loss.kd_ratio > 0"),
        ({"teacher_cache": "cache"}, "give teacher or teacher_cache, not both"),
        ({"train_dataset": lean(rows(examples(2)))}, "train_dataset .* lacks spans, trace_id"),
        (
            {"eval_dataset": {"a": lean(rows(examples(2)))}},
            r"eval_dataset\['a'\] must have the col",
        ),
        ({"lsp": 0.5}, "lsp and sections say nothing with prepared rows"),
        (
            {"train_dataset": Dataset.from_list([{"text": "a"}])},
            "lsp is required where train_dataset",
        ),
        ({"loss": {"kd": 1}}, "loss.kd is not a known key"),
        (
            {"teacher": {"path": "a", "system_prompt": "It is {gold}."}},
            "teacher.system_prompt must be left out",
        ),
        ({"processing_class": None}, "processing_class is required with a model in memory"),
        (
            {"rollout": {}, "loss": {"kd_ratio": 0.5}},
            "loss.kd_ratio must be 1 with rollout.share 1",
        ),
        ({"rollout": {"share": 0.25}}, r"multiple of per_device_train_batch_size \(2\); got 1"),
        (
            {"rollout": {"share": 0.5, "refresh_every_steps": 2}},
            "refresh_every_steps must be 1; got 2",
        ),
    ],
)
def test_a_wrong_argument_is_one_line(
    options: dict[str, Any], message: str, tmp_path: Path, tiny_student: Path, tiny_teacher: Path
) -> None:
    given = {
        "model": load(tiny_student),
        "teacher": load(tiny_teacher),
        "args": arguments(tmp_path),
        "train_dataset": rows(examples(4)),
        "processing_class": build_tiny_tokenizer(),
    }
    with pytest.raises(ConfigError, match=message) as caught:
        LeadSpanTrainer(**{**given, **options})
    assert "\n" not in str(caught.value)


def test_models_that_do_not_fit_are_refused(
    tmp_path: Path, tiny_student: Path, tiny_teacher: Path
) -> None:
    given: dict[str, Any] = {"args": arguments(tmp_path), "train_dataset": rows(examples(4))}
    narrow = build_tiny_model(20, seed=3)
    with pytest.raises(DataError, match="head must be at least as wide"):
        LeadSpanTrainer(model=str(tiny_student), teacher=narrow, **given)
    load(tiny_teacher).save_pretrained(tmp_path / "other")
    swapped = json.loads((tiny_teacher / "tokenizer.json").read_text())
    vocab = swapped["model"]["vocab"]
    vocab["a"], vocab["b"] = vocab["b"], vocab["a"]
    for file in tiny_teacher.glob("token*"):
        (tmp_path / "other" / file.name).write_bytes(file.read_bytes())
    (tmp_path / "other" / "tokenizer.json").write_text(json.dumps(swapped))
    with pytest.raises(DataError, match="vocabularies must agree token by token; 2 differ"):
        LeadSpanTrainer(model=str(tiny_student), teacher=str(tmp_path / "other"), **given)
    smoothed = arguments(tmp_path, label_smoothing_factor=0.1)
    with pytest.raises(ConfigError, match=r"label_smoothing_factor must be 0; got 0\.1"):
        LeadSpanTrainer(model=str(tiny_student), teacher=narrow, **{**given, "args": smoothed})


def test_a_label_that_the_teacher_does_not_know_is_not_scored() -> None:
    vocabulary = TeacherVocabulary(40, lambda sequence: sequence.trace_id != "sum-1", "40 ids")
    inputs = Collator(vocabulary)(rows(examples(2)))
    labels_T = examples(2)[0].sequence.input_ids_T[examples(2)[0].supervised_T]
    known_N = labels_T[labels_T < 40].tolist()
    assert 0 < len(known_N) < len(labels_T)
    assert inputs["batch"].labels_N.tolist() == known_N
    assert inputs["labels"][0][inputs["labels"][0] != -100].tolist() == known_N
    assert (inputs["labels"][1] == -100).all()


class StopAfter(TrainerCallback):
    """Ends the training behind a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        control.should_training_stop = state.global_step == self.step


def test_a_stopped_training_goes_on_from_its_checkpoint(
    by_loop: Any, tmp_path: Path, tiny_student: Path, tiny_teacher: Path
) -> None:
    def build(*callbacks: Any) -> LeadSpanTrainer:
        return LeadSpanTrainer(
            model=load(tiny_student),
            teacher=load(tiny_teacher),
            args=arguments(tmp_path, save_strategy="steps", save_steps=2),
            train_dataset=ordered(examples()),
            processing_class=build_tiny_tokenizer(),
            callbacks=list(callbacks),
        )

    build(StopAfter(3)).train()
    assert not (tmp_path / "checkpoint-4").exists()
    trainer = build()
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert_same(trainer.state.log_history, trainer.model.state_dict(), by_loop)


def test_rows_come_from_a_stream_as_well(
    by_loop: Any, tmp_path: Path, tiny_student: Path, tiny_teacher: Path
) -> None:
    trainer = LeadSpanTrainer(
        model=load(tiny_student),
        teacher=load(tiny_teacher),
        args=arguments(tmp_path, max_steps=STEPS),
        train_dataset=ordered(examples()).to_iterable_dataset(),
        processing_class=build_tiny_tokenizer(),
    )
    trainer.train()
    assert_same(trainer.state.log_history, trainer.model.state_dict(), by_loop)


def test_a_loss_function_of_ones_own_is_called_as_trainer_calls_it(
    tmp_path: Path, tiny_student: Path
) -> None:
    def build(**options: Any) -> LeadSpanTrainer:
        return LeadSpanTrainer(
            model=load(tiny_student),
            loss={"kd_ratio": 0},
            args=arguments(tmp_path),
            train_dataset=ordered(examples()),
            processing_class=build_tiny_tokenizer(),
            **options,
        )

    def cross_entropy(outputs: Any, labels: Any, num_items_in_batch: Any) -> Any:
        logits, labels = outputs.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()
        total = torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
        return total / num_items_in_batch

    own, ours = build(compute_loss_func=cross_entropy), build()
    own.train()
    ours.train()
    mine, theirs = ([r["loss"] for r in t.state.log_history if "loss" in r] for t in (own, ours))
    assert mine == pytest.approx(theirs, rel=1e-5)
    assert "ce_cot" in ours.state.log_history[0]
    assert "ce_cot" not in own.state.log_history[0]


def test_raw_logits_are_there_for_compute_metrics(
    tmp_path: Path, tiny_student: Path, tiny_teacher: Path
) -> None:
    seen: list[tuple[int, ...]] = []

    def metrics(prediction: Any) -> dict[str, float]:
        seen.append(prediction.predictions.shape)
        return {"accuracy": float((prediction.predictions.argmax(-1) == 0).mean())}

    trainer = LeadSpanTrainer(
        model=load(tiny_student),
        teacher=load(tiny_teacher),
        args=arguments(tmp_path),
        eval_dataset=rows(examples()[:7]),
        processing_class=build_tiny_tokenizer(),
        compute_metrics=metrics,
    )
    found = trainer.evaluate()
    plain = LeadSpanTrainer(
        model=load(tiny_student),
        teacher=load(tiny_teacher),
        args=arguments(tmp_path),
        eval_dataset=rows(examples()[:7]),
        processing_class=build_tiny_tokenizer(),
    ).evaluate()
    assert found["eval_loss"] == pytest.approx(plain["eval_loss"], rel=1e-6)
    assert seen[0][0] == 7
    assert "eval_accuracy" in found
