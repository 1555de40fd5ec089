"""A hub of one's own: it says which commit is the newest, and what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar

Server = TypeVar("Server", bound=ThreadingHTTPServer)


class HubServer(ThreadingHTTPServer):
    """Answers `/api/models/ID` and `/api/datasets/ID`, and nothing else."""

    def __init__(self, commits: dict[str, str]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.gated: set[str] = set()
        """Ids whose files nobody may have."""
        self.commits = commits
        """`models/owner/name` or `datasets/owner/name` -> its newest commit."""
        self.asked: list[str] = []
        """Of models and data sets; the hub's own library asks other things too."""

    @property
    def url(self) -> str:
        """For `HF_ENDPOINT`."""
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: HubServer

    def log_message(self, *arguments: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        """Of a file: none is here, and a gated id says so."""
        name = "/".join(self.path.split("/")[1:3])
        self.send_response(403 if name in self.server.gated else 404)
        self.send_header(
            "x-error-code", "GatedRepo" if name in self.server.gated else "RepoNotFound"
        )
        self.send_header("content-length", "0")
        self.end_headers()

    def do_GET(self) -> None:
        name = self.path.removeprefix("/api/")
        if name.startswith(("models/", "datasets/")):
            self.server.asked.append(name)
        commit = self.server.commits.get(name)
        content = {"id": name.partition("/")[2], "sha": commit, "siblings": [], "private": False}
        body = json.dumps(content if commit else {"error": "not here"}).encode()
        self.send_response(200 if commit else 404)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def serve(server: Server) -> Iterator[Server]:
    """The server while it runs, in a thread."""
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def hub_server(commits: dict[str, str]) -> Iterator[HubServer]:
    """One that runs."""
    yield from serve(HubServer(commits))
