"""The endpoint back end against a real HTTP server that behaves, and one that does not."""

import json
import time

import pytest

pytest.importorskip("openai")

import leadspan.endpoint
from leadspan.config import BenchmarkConfig, EndpointConfig, EvaluationConfig, SamplingConfig
from leadspan.errors import RunError
from leadspan.evaluation.evaluate import evaluate
from leadspan.generation.requests import Request
from leadspan.generation.served import EndpointBackend
from leadspan.records import Message
from tests.generation.stub_server import chat_reply, serving


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch):
    monkeypatch.setattr(leadspan.endpoint, "FIRST_WAIT_SECONDS", 0.02)


def requests(count):
    return [
        Request(str(n), messages=(Message("user", f"{n}+{n}?"),), prompt_text=f"{n}+{n}?", seed=n)
        for n in range(count)
    ]


def ask(server, count=4, sampling=None, **options):
    options = {"timeout_seconds": 5, "max_retries": 3, "concurrency": 4, **options}
    config = EndpointConfig(base_url=server.url, model="student", **options)
    backend = EndpointBackend(config, sampling or SamplingConfig(max_new_tokens=9))
    return {completion.key: completion for completion in backend.generate(requests(count))}


def test_chat_sends_the_sampling_and_reads_the_answer():
    sampling = SamplingConfig(max_new_tokens=9, sampling_temperature=0.6, top_p=0.95, top_k=20)
    with serving(lambda n, body: chat_reply(f"saw {body['messages'][0]['content']}")) as server:
        found = ask(server, 3, sampling)
    assert {key: completion.text for key, completion in found.items()} == {
        str(n): f"saw {n}+{n}?" for n in range(3)
    }
    assert found["0"].num_tokens == 7
    path, body = server.bodies[0]
    assert path == "/v1/chat/completions"
    expected = {"model": "student", "max_tokens": 9, "temperature": 0.6, "top_p": 0.95, "top_k": 20}
    assert body.items() >= expected.items()
    assert {body["seed"] for _, body in server.bodies} == {0, 1, 2}


@pytest.mark.parametrize(
    ("reply", "text", "reason"),
    [
        (chat_reply("5", reasoning="2+3"), "<think>2+3</think>5", "stop"),
        (chat_reply("", reasoning="2+", finish="length"), "<think>2+", "length"),
        (chat_reply("", reasoning="2+3"), "<think>2+3</think>", "stop"),
        (chat_reply("<think>2+3</think>5"), "<think>2+3</think>5", "stop"),
        (chat_reply(None), "", "stop"),
        (chat_reply(None, reasoning="2+3"), "<think>2+3", "stop"),
        (chat_reply(None, reasoning="2+", finish="length"), "<think>2+", "length"),
        (
            chat_reply([{"type": "text", "text": "5"}], reasoning="2+3"),
            "<think>2+3</think>5",
            "stop",
        ),
        (
            chat_reply([{"type": "thinking", "thinking": "2+3"}, {"type": "text", "text": "5"}]),
            "<think>2+3</think>5",
            "stop",
        ),
        (chat_reply([{"type": "image_url", "image_url": {}}]), "", "error"),
        (chat_reply("5", reasoning="\n"), "5", "stop"),
        (chat_reply("5<|end|>", reasoning="2+3"), "<think>2+3</think>5", "stop"),
        (chat_reply("5<|im_end|>\n<|endoftext|>"), "5", "stop"),
        (chat_reply("5<｜end▁of▁sentence｜>"), "5", "stop"),
        (chat_reply("a </s> b"), "a </s> b", "stop"),
        (chat_reply("<think>2+3</think>"), "<think>2+3</think>", "stop"),
        (chat_reply("x", finish="content_filter"), "", "error"),
    ],
)
def test_reasoning_that_the_server_splits_off_is_joined(reply, text, reason):
    with serving(lambda n, body: reply) as server:
        completion = ask(server, 1)["0"]
    assert (completion.text, completion.finish_reason) == (text, reason)


def test_completions_send_the_rendered_prompt():
    reply = {"choices": [{"text": "5", "finish_reason": "length"}]}
    with serving(lambda n, body: reply) as server:
        found = ask(server, 1, api="completions")
    assert server.bodies[0][0] == "/v1/completions"
    assert server.bodies[0][1]["prompt"] == "0+0?"
    assert (found["0"].text, found["0"].finish_reason, found["0"].num_tokens) == (
        "5",
        "length",
        None,
    )


NEUTRAL = {"top_k": -1, "min_p": 0.0}
SERVE = {"paths": ["/load_model"]}
SPECIAL = {"skip_special_tokens": False}
OF_ENGINE = {**NEUTRAL, **SPECIAL, "repetition_penalty": 1.0}


@pytest.mark.parametrize(
    ("server_is", "own", "prompt"),
    [
        ({"owner": "vllm"}, OF_ENGINE, [1, 5]),
        ({"owner": "sglang"}, OF_ENGINE, [1, 5]),
        ({"owner": "llamacpp"}, {**NEUTRAL, "repeat_penalty": 1.0}, [1, 5]),
        ({"owner": "Qwen", **SERVE}, {"frequency_penalty": 0.0}, "2+3?"),
        ({"owner": "openai"}, {}, "2+3?"),
    ],
)
def test_each_server_is_asked_in_its_own_words(server_is, own, prompt):
    """What is left open, servers take from the model's config: a penalty, a top_k, a min_p."""
    reply = {"choices": [{"text": "5", "finish_reason": "stop"}]}
    request = Request("a", prompt_ids=(1, 5), prompt_text="<s>2+3?", seed=3)
    with serving(lambda n, body: reply, **server_is) as server:
        config = EndpointConfig(base_url=server.url, model="student", api="completions")
        backend = EndpointBackend(config, SamplingConfig(max_new_tokens=9), added_start="<s>")
        assert [completion.text for completion in backend.generate([request])] == ["5"]
    common = {"model": "student", "max_tokens": 9, "temperature": 0.0, "top_p": 1.0, "seed": 3}
    assert server.bodies[0][1] == {**common, **own, "prompt": prompt}


@pytest.mark.parametrize("models", [("in/cache",), None])
def test_transformers_serve_is_told_to_sample_and_need_not_list_its_model(models):
    sampling = SamplingConfig(max_new_tokens=9, sampling_temperature=0.6, top_k=20)
    with serving(lambda n, body: chat_reply("ok"), models=models, **SERVE) as server:
        ask(server, 1, sampling)
    body = server.bodies[0][1]
    assert "top_k" not in body, "it refuses the fields that it does not know"
    assert json.loads(body["generation_config"]) == {"do_sample": True, "top_k": 20, "min_p": 0.0}


@pytest.mark.parametrize("trouble", [429, 500, 503, "garbage", "broken json", "hang up"])
def test_trouble_is_tried_again(trouble):
    good = chat_reply("fine")
    with serving(lambda n, body: good if n > 2 else trouble) as server:
        found = ask(server, 1)
    assert found["0"].text == "fine"
    assert server.calls == 3


@pytest.mark.parametrize("trouble", ["stall", "drip"])
def test_an_answer_without_an_end_costs_its_time_out(trouble):
    with serving(lambda n, body: trouble if n == 1 else chat_reply("fine")) as server:
        started = time.monotonic()
        found = ask(server, 1, timeout_seconds=0.5)
    assert found["0"].text == "fine"
    assert time.monotonic() - started < 5


def test_concurrency_is_bounded_and_used():
    def slow(number, body):
        time.sleep(0.1)
        return chat_reply("ok")

    with serving(slow) as server:
        ask(server, 24, concurrency=6)
    assert 4 <= server.most <= 6


def test_what_the_server_will_never_answer_is_an_error_of_one_row():
    def picky(number, body):
        return 400 if body["messages"][0]["content"] == "1+1?" else chat_reply("ok")

    with serving(picky) as server:
        found = ask(server, 3)
    assert (found["1"].finish_reason, found["1"].is_transient) == ("error", False)
    assert server.calls == 3
    assert found["2"].text == "ok"


def test_a_server_that_stops_answering_ends_the_evaluation():
    with (
        serving(lambda n, body: 503) as server,
        pytest.raises(RunError, match="calls in a row failed"),
    ):
        ask(server, 50, max_retries=0, concurrency=3)
    assert server.calls < 12


def test_down_refused_and_unknown_model(monkeypatch):
    with pytest.raises(RunError, match="cannot be reached"):
        EndpointBackend(
            EndpointConfig(base_url="http://127.0.0.1:9/v1", model="m"), SamplingConfig()
        )
    with serving(lambda n, body: chat_reply("ok"), key="secret") as server:
        with pytest.raises(RunError, match=r"refuses the key in \$MY_KEY"):
            ask(server, 1, api_key_env="MY_KEY")
        monkeypatch.setenv("MY_KEY", "secret")
        assert ask(server, 1, api_key_env="MY_KEY")["0"].text == "ok"
    with (
        serving(lambda n, body: chat_reply("ok"), models=("other",)) as server,
        pytest.raises(RunError, match="must be one it serves"),
    ):
        ask(server, 1)


def write_problems(path):
    rows = [{"id": str(n), "problem": f"{n}+{n}?", "gold": str(2 * n)} for n in range(6)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def config_of(server, problems):
    return EvaluationConfig(
        benchmarks=(BenchmarkConfig(path=str(problems), grading="math"),),
        backend="endpoint",
        endpoint=EndpointConfig(base_url=server.url, model="student", max_retries=0, concurrency=2),
    )


def test_a_whole_evaluation_over_http_keeps_what_it_got(tmp_path):
    write_problems(tmp_path / "p.jsonl")
    down = {"3+3?"}

    def solve(number, body):
        question = body["messages"][-1]["content"]
        if question in down:
            return 503
        left = int(question.partition("+")[0])
        return chat_reply(f"\\boxed{{{2 * left}}}" if left else "no idea", reasoning="hm")

    with serving(solve) as server:
        config = config_of(server, tmp_path / "p.jsonl")
        with pytest.raises(RunError, match=r"1 answers could not be had, last: 3#0: status 503"):
            evaluate("student", config, tmp_path / "out")
        assert not (tmp_path / "out" / "evaluation.json").exists()
        down.clear()
        result = evaluate("student", config, tmp_path / "out")
    assert server.calls == 7
    assert result.accuracy == pytest.approx(5 / 6)
    assert result.benchmarks[0].outcomes == {"correct": 5, "wrong": 0, "unparsed": 1, "timeout": 0}
    assert result.closed_fraction == 1.0
