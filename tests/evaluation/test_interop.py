"""The student in other people's programs: lm-evaluation-harness and `transformers serve`."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from transformers.utils.import_utils import is_serve_available

from leadspan.config import BenchmarkConfig, EndpointConfig, EvaluationConfig, SamplingConfig
from leadspan.evaluation.evaluate import evaluate
from leadspan.world.build import WorldConfig, build_world

pytestmark = pytest.mark.slow
LIMIT = 160
PROBLEMS_A_FILE = 8


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return build_world(tmp_path_factory.mktemp("world"), seed=5, config=WorldConfig.small())


@pytest.fixture(scope="module")
def problems(world, tmp_path_factory):
    """A few test problems of each size; every other gold is what the teacher of so small a world answers.

    Its own accuracy is near zero, and two graders that call everything wrong would agree.
    """
    folder = tmp_path_factory.mktemp("problems")
    path, rows = folder / "world.jsonl", []
    for file in world.tests:
        rows += map(json.loads, file.read_text().splitlines()[:PROBLEMS_A_FILE])
    write_rows(path, rows)
    evaluate(world.teacher, config_of(path), folder / "asked")
    lines = (folder / "asked" / "samples.jsonl").read_text().splitlines()
    answers = {row["problem_id"]: row["answer"].strip() for row in map(json.loads, lines)}
    for row in rows[::2]:
        row["gold"] = answers[str(row["id"])] or row["gold"]
    write_rows(path, rows)
    return path


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def config_of(problems, sampling=(), **backend):
    benchmark = BenchmarkConfig(path=str(problems), grading="exact")
    sampling = SamplingConfig(max_new_tokens=LIMIT, **dict(sampling))
    return EvaluationConfig(benchmarks=(benchmark,), sampling=sampling, dtype="float32", **backend)


@pytest.fixture(scope="module")
def ours(world, problems, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ours")
    result = evaluate(world.teacher, config_of(problems), folder)
    assert 0.2 < result.accuracy < 0.8, "graders that say one thing of all rows would agree"
    return folder, result


def texts_of(folder):
    rows = map(json.loads, (folder / "samples.jsonl").read_text().splitlines())
    return {row["problem_id"]: row["text"] for row in rows}


def test_lm_eval_finds_the_same_accuracy(world, problems, ours, tmp_path, monkeypatch):
    lm_eval = pytest.importorskip("lm_eval")
    from lm_eval.tasks import TaskManager

    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    task = {
        "task": "leadspan_world",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(problems)}},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "{{problem}}",
        "doc_to_target": "{{gold}}",
        "generation_kwargs": {"until": ["<|end|>"], "do_sample": False, "max_gen_toks": LIMIT},
        "filter_list": [
            {
                "name": "answer",
                "filter": [
                    {"function": "regex", "regex_pattern": "</think>(.*)$", "group_select": -1},
                    {"function": "take_first"},
                ],
            }
        ],
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    }
    (tmp_path / "leadspan_world.yaml").write_text(json.dumps(task))  # JSON is YAML
    found = lm_eval.simple_evaluate(
        model="hf",
        model_args={"pretrained": str(world.teacher), "dtype": "float32", "device": "cpu"},
        tasks=["leadspan_world"],
        task_manager=TaskManager(include_path=str(tmp_path)),
        apply_chat_template=True,
        batch_size=16,
        bootstrap_iters=0,
    )
    assert found["results"]["leadspan_world"]["exact_match,answer"] == pytest.approx(
        ours[1].accuracy
    )


@pytest.fixture(scope="module")
def server(world):
    """`transformers serve` with the world's teacher, on a free port of loopback."""
    if not is_serve_available():
        pytest.skip('transformers serve is not installed: pip install "leadspan[interop]"')
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = Path(sys.executable).with_name("transformers")
    command = [program, "serve", str(world.teacher), "--port", str(port), "--device", "cpu"]
    process = subprocess.Popen(
        [*map(str, command), "--dtype", "float32"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},  # of so small a model, threads only wait
    )
    try:
        for _ in range(240):
            if process.poll() is not None:
                pytest.fail(f"transformers serve ended with {process.returncode}")
            try:
                urlopen(f"http://127.0.0.1:{port}/health", timeout=2)
                break
            except (URLError, OSError):
                time.sleep(0.5)
        else:
            pytest.fail("transformers serve did not start")
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(20)


def ask(world, problems, server, folder, api="chat", **sampling):
    endpoint = EndpointConfig(
        base_url=server, model=str(world.teacher), api=api, concurrency=4, timeout_seconds=120
    )
    config = config_of(problems, sampling, backend="endpoint", endpoint=endpoint)
    return evaluate(world.teacher, config, folder), texts_of(folder)


def num_same(mine, theirs):
    assert mine.keys() == theirs.keys()
    return sum(mine[key].strip() == theirs[key].strip() for key in mine)


@pytest.mark.parametrize("api", ["chat", "completions"])
def test_transformers_serve_gives_the_same_answers(world, problems, ours, server, api, tmp_path):
    result, theirs = ask(world, problems, server, tmp_path, api)
    # Ties between logits may fall apart where rows are batched otherwise.
    assert num_same(texts_of(ours[0]), theirs) >= 0.9 * len(theirs)
    assert result.accuracy == pytest.approx(ours[1].accuracy, abs=0.1)
    assert result.closed_fraction == pytest.approx(ours[1].closed_fraction, abs=0.1)


def test_transformers_serve_samples_as_it_is_told(world, problems, ours, server, tmp_path):
    """The model's own config is greedy; the likeliest of one token is greedy at any temperature."""
    mine = texts_of(ours[0])
    _, free = ask(world, problems, server, tmp_path / "free", sampling_temperature=2.0)
    assert num_same(mine, free) <= 0.5 * len(mine)
    _, bound = ask(world, problems, server, tmp_path / "k", sampling_temperature=2.0, top_k=1)
    assert num_same(mine, bound) >= 0.9 * len(mine)
