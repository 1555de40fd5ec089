"""A real HTTP server that scores prompts with a model, as vLLM and as older servers do."""

from __future__ import annotations

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch


class Stub(ThreadingHTTPServer):
    """Serves the tiny teacher's prompt log-probabilities."""

    def __init__(self, model: Any, owner: str = "someone") -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.model, self.owner = model, owner
        self.last_call = sys.maxsize
        """Calls after it are answered with an overload."""
        self.fault: str | None = None
        self.bodies: list[dict[str, Any]] = []
        self.lock = threading.Lock()

    @torch.no_grad()
    def positions(self, prompt: list[int], k: int) -> list[dict[int, float] | None]:
        """The k likeliest and the actual token, as servers give them."""
        with self.lock:
            log_p = self.model(torch.tensor([prompt])).logits[0].log_softmax(-1)
        rows: list[dict[int, float] | None] = [None]
        for place, token in enumerate(prompt[1:]):
            ids = {*log_p[place].topk(k).indices.tolist(), token}
            rows.append({i: log_p[place, i].item() for i in ids})
        return rows


class Handler(BaseHTTPRequestHandler):
    server: Stub

    def log_message(self, *arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._reply(200, {"data": [{"id": "big", "owned_by": self.server.owner}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.bodies.append(body)
        fault = self.server.fault
        if len(self.server.bodies) > self.server.last_call:
            return self._reply(503, {"error": {"message": "dead"}})
        if fault == "busy" and len(self.server.bodies) < 3:
            return self._reply(503, {"error": {"message": "busy"}})
        k = body.get("prompt_logprobs") or body.get("logprobs")
        rows = self.server.positions(body["prompt"], 2 if fault == "few" else k)
        if fault == "short":
            rows = rows[:-2]
        if fault == "foreign":
            rows[1] = {**(rows[1] or {}), 10_000: -1.0}
        choice: dict[str, Any] = {"index": 0, "text": "x"}
        if "prompt_logprobs" in body:
            choice["prompt_logprobs"] = [
                row and {str(i): {"logprob": v, "rank": 1} for i, v in row.items()} for row in rows
            ]
        else:
            name = "{}" if fault == "text" else "token_id:{}"
            top = [row and {name.format(i): v for i, v in row.items()} for row in rows]
            choice["logprobs"] = {"top_logprobs": [*top, {"token_id:1": -0.1}]}
        return self._reply(200, {"choices": [choice]})

    def _reply(self, status: int, content: Any) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
