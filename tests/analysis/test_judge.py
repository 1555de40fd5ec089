"""The judge against a real HTTP server that answers as an OpenAI-compatible one does."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from leadspan.analysis.judge import estimate, judge_traces
from leadspan.config import EndpointConfig
from tests.analysis.made_up import made_up_trace

pytest.importorskip("openai")


class _Judge(BaseHTTPRequestHandler):
    asked: list[str] = []  # noqa: RUF012
    replies: dict[str, str] = {}  # noqa: RUF012

    def do_GET(self) -> None:
        self._send({"object": "list", "data": [{"id": "judge"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = body["messages"][0]["content"]
        self.asked.append(text)
        assert body["temperature"] == 0
        reply = next(reply for cue, reply in self.replies.items() if cue in text)
        self._send({"choices": [{"message": {"role": "assistant", "content": reply}}]})

    def _send(self, content: dict[str, Any]) -> None:
        payload = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def endpoint() -> Iterator[EndpointConfig]:
    _Judge.asked.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Judge)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/v1"
    yield EndpointConfig(base_url=url, model="judge", max_retries=0, timeout_seconds=10)
    server.shutdown()


def test_three_questions_cached(endpoint: EndpointConfig, tmp_path: Path) -> None:
    trace, end = made_up_trace("plain product")
    _Judge.replies = {
        "shortest exact quotation": "<quote>9 times 6\nis 54</quote>",
        "ANSWER:": "Yes.",
        "PROBLEM:": "I think no",
    }
    first = judge_traces([trace], endpoint, tmp_path)
    assert first.num_asked == 3 == len(_Judge.asked) == estimate([trace]).calls
    verdict = first.verdicts[0]
    assert (verdict.entails_prompt, verdict.entails_answer) == (False, True)
    assert verdict.derivation_end == end
    again = judge_traces([trace], endpoint, tmp_path)
    assert again.num_asked == 0
    assert len(_Judge.asked) == 3
    assert again.verdicts == first.verdicts
    assert again.summary()["entails_answer"] == 1.0


def test_garbage_is_counted(endpoint: EndpointConfig, tmp_path: Path) -> None:
    trace, _ = made_up_trace("plain product")
    _Judge.replies = {
        "shortest exact quotation": "<quote>words that stand nowhere</quote>",
        "": "perhaps",
    }
    found = judge_traces([trace], endpoint, tmp_path)
    assert found.unusable == {"neither_yes_nor_no": 2, "quotation_not_in_cot": 1}
    assert found.verdicts[0].entails_prompt is None
    assert found.summary()["entails_prompt"] is None
