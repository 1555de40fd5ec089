"""A real HTTP server on loopback that answers, fails, stalls, drips and talks nonsense on demand."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Stub(ThreadingHTTPServer):
    """`behaviour(number, body)` says what becomes of the n-th call: a dict, a status, or a name."""

    daemon_threads = True

    def __init__(self, behaviour, models=("student",), key=None, owner="someone", paths=(), port=0):
        super().__init__(("127.0.0.1", port), Handler)
        self.behaviour, self.models, self.key = behaviour, models, key
        self.owner, self.paths = owner, paths
        self.lock, self.calls, self.bodies = threading.Lock(), 0, []
        self.now = self.most = 0
        self.ended = threading.Event()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request, client_address):
        pass


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        if self._is_refused():
            return
        if self.path == "/openapi.json":
            self._send(200, {"paths": {path: {} for path in self.server.paths}})
            return
        if (
            self.server.models is None
        ):  # as `transformers serve` does where the hub's cache is missing
            self._send(500, {"error": {"message": "no list"}})
            self.close_connection = True
            return
        models = [{"id": name, "owned_by": self.server.owner} for name in self.server.models]
        self._send(200, {"data": models})

    def do_POST(self):
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self._is_refused():
            return
        with server.lock:
            server.calls += 1
            number = server.calls
            server.bodies.append((self.path, body))
            server.now += 1
            server.most = max(server.most, server.now)
        try:
            self._act(server.behaviour(number, body))
        finally:
            with server.lock:
                server.now -= 1

    def _is_refused(self):
        key = self.server.key
        if key is None or self.headers["Authorization"] == f"Bearer {key}":
            return False
        self._send(401, {"error": {"message": "bad key"}})
        return True

    def _act(self, action):
        if isinstance(action, dict):
            self._send(200, action)
        elif isinstance(action, int):
            self._send(action, {"error": {"message": f"status {action}"}})
        elif action == "garbage":
            self._raw(b"<html>hello</html>", "text/html")
        elif action == "broken json":
            self._raw(b'{"choices": [', "application/json")
        elif action == "stall":
            self.server.ended.wait(20)
        elif action == "hang up":
            self.close_connection = True
        elif action == "drip":
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", "1000000")
            self.end_headers()
            while not self.server.ended.is_set():
                self.wfile.write(b" ")
                self.wfile.flush()
                time.sleep(0.05)

    def _raw(self, content, kind):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _send(self, status, body):
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        if status == 429:
            self.send_header("Retry-After", "0")
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def serving(behaviour, **options):
    server = Stub(behaviour, **options)
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
    )
    thread.start()
    try:
        yield server
    finally:
        server.ended.set()
        server.shutdown()
        server.server_close()


def chat_reply(content, reasoning=None, finish="stop", tokens=7):
    message = {"role": "assistant", "content": content}
    if reasoning is not None:
        message["reasoning_content"] = reasoning
    return {
        "choices": [{"message": message, "finish_reason": finish}],
        "usage": {"completion_tokens": tokens},
    }
