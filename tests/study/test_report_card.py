from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from leadspan.errors import RunError
from leadspan.study.report.card import build_model_card, read_license, write_model_card

from .made_up_sweep import add_point, build_config, write_json, write_sweep_file


def card_of(config: dict[str, Any], **evaluation: Any) -> tuple[dict[str, Any], str]:
    text = build_model_card(config, {"train_seconds": 12.34, "train_flops": 2e15}, evaluation, {})
    _, matter, body = text.split("---\n", 2)
    return yaml.safe_load(matter), body


def test_a_card_tells_cut_data_cost_and_scores(tmp_path: Path) -> None:
    write_sweep_file(tmp_path)
    point = add_point(tmp_path, "run", lsp=0.5, accuracy=0.8)
    write_json(point / "environment.json", {"packages": {"torch": "2.13.0"}, "config_hash": "abc"})
    (point / "student").mkdir()
    path = write_model_card(point)
    assert path == point / "student" / "README.md"
    text = path.read_text(encoding="utf-8")
    for said in (
        "student taught by teacher on the first 50 % of each sequence of train.jsonl",
        "| scored sections | CoT+A |",
        "| loss.kd_ratio | 0.5 |",
        "| training time |",
        "| test | 0.",
        "torch 2.13.0, config abc",
        'path = "."',
        "the student has not seen the rest of its training traces",
    ):
        assert said in text, said


def test_hub_ids_are_linked_and_local_paths_are_not_published() -> None:
    config = build_config(lsp=0.5)
    config["student"]["path"] = "Qwen/Qwen3-0.6B-Base"
    config["teacher"]["path"] = "/home/somebody/secret/teacher"
    config["traces"]["path"] = "open-thoughts/OpenThoughts-114k"
    entry = {"name": "aime24", "accuracy": 0.25, "accuracy_low": 0.1, "accuracy_high": 0.4}
    matter, body = card_of(config, benchmarks=[entry])
    assert matter["base_model"] == "Qwen/Qwen3-0.6B-Base"
    assert matter["base_model_relation"] == "finetune"
    assert matter["datasets"] == ["open-thoughts/OpenThoughts-114k"]
    (index,) = matter["model-index"]
    assert index["results"][0]["metrics"] == [{"type": "accuracy", "value": 0.25}]
    assert "somebody" not in body
    assert "0.250 | \\[0.10, 0.40\\]" in body


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"lsp": 1.0}, "whole sequences"),
        ({"lsp": 0.25, "keep": "tail"}, "the last 25 % of each sequence, prompt included"),
        (
            {"policy": "bridge", "lsp": 0.5},
            "the first 50 % of each chain of thought, its end marker",
        ),
        ({"lsp": 0.2, "lsp_end": 1.0}, "the first 20 % (moving to 100 % over the training)"),
        (
            {"policy": "derivation", "margin": 0.1},
            "up to its first derivation of the answer plus 10 %",
        ),
        ({"policy": "end_of_cot"}, "without the answer"),
    ],
)
def test_the_cut_in_words(change: dict[str, Any], said: str) -> None:
    config = build_config()
    config["truncation"] |= change
    _, body = card_of(config)
    assert said in body
    assert "lead " not in body
    assert "lsp" not in body
    assert ("has not seen the rest" in body) == (said != "whole sequences")


def test_rollouts_in_words() -> None:
    config = build_config()
    config["rollout"] = {"share": 1.0, "horizon": 0.25, "horizon_start": None}
    assert (
        "taught by teacher on what it wrote itself to prompts of train.jsonl (horizon 0.25)"
        in (card_of(config)[1])
    )
    config["rollout"]["share"] = 0.5
    assert (
        "whole sequences of train.jsonl, and for 50 % on what it wrote itself" in card_of(config)[1]
    )


@pytest.mark.parametrize("stated", ["apache-2.0", None])
def test_the_license_is_that_of_the_base_model(tmp_path: Path, stated: str | None) -> None:
    (tmp_path / "README.md").write_text(
        f"---\nlicense: {stated}\n---\n" if stated else "# A model\n"
    )
    assert read_license(str(tmp_path)) == stated
    text = build_model_card(build_config(), {}, {}, {}, read_license(str(tmp_path)))
    matter = yaml.safe_load(text.split("---\n")[1])
    assert matter["license"] == (stated or "other")
    assert ("license_name" in matter) == (stated is None)
    assert "The weights come from student" in text


def test_a_damaged_card_of_the_base_model_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("---\nlicense: [\n---\n")
    assert read_license(str(tmp_path)) is None


def test_the_adapter_has_a_card_of_its_own(tmp_path: Path) -> None:
    write_sweep_file(tmp_path)
    point = add_point(tmp_path, "run", lsp=0.5)
    for folder in ("student", "adapter"):
        (point / folder).mkdir()
    whole = write_model_card(point).read_text(encoding="utf-8")
    adapter = (point / "adapter" / "README.md").read_text(encoding="utf-8")
    assert "library_name: peft" in adapter
    assert "from peft import AutoPeftModelForCausalLM" in adapter
    assert "peft" not in whole
    config = build_config() | {"student": {"path": "Qwen/Qwen3-0.6B-Base"}}
    matter = yaml.safe_load(build_model_card(config, {}, {}, {}, is_adapter=True).split("---\n")[1])
    assert matter["base_model_relation"] == "adapter"


def test_without_teacher_or_scores() -> None:
    config = build_config() | {"teacher": None}
    matter, body = card_of(config)
    assert "fine-tuned" in body
    assert "Not evaluated." in body
    assert "model-index" not in matter
    assert "base_model" not in matter


def test_an_unfinished_run_gets_no_card(tmp_path: Path) -> None:
    write_sweep_file(tmp_path)
    point = add_point(tmp_path, "run")
    (point / "manifest.json").unlink()
    with pytest.raises(RunError, match="manifest"):
        write_model_card(point)
