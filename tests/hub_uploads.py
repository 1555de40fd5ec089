"""A hub of one's own that takes uploads by the real one's HTTP: repository, modes of files, LFS, commit."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.hub_server import serve

TOKEN = "a-token-that-may-write"


@dataclass
class Repository:
    """What stands on the hub."""

    is_private: bool
    commits: list[dict[str, bytes]] = field(default_factory=list)
    """The files of each commit, by name."""


class UploadHub(ThreadingHTTPServer):
    """Weights go by LFS, everything else within the commit."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, Repository] = {}
        self.large: dict[str, bytes] = {}
        """Uploaded LFS objects by SHA-256."""
        self.is_read_only = False

    @property
    def url(self) -> str:
        """For `HF_ENDPOINT`."""
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: UploadHub

    def log_message(self, *arguments: Any) -> None:
        pass

    def do_PUT(self) -> None:
        content = self._body()
        oid = self.path.rpartition("/")[2]
        is_whole = hashlib.sha256(content).hexdigest() == oid
        if is_whole:
            self.server.large[oid] = content
        self._answer({}, 200 if is_whole else 400)

    def do_POST(self) -> None:
        body = self._body()
        if self.headers.get("authorization") != f"Bearer {TOKEN}":
            self._answer({"error": "Invalid user token."}, 401)
        elif self.server.is_read_only:
            self._answer({"error": "You don't have the rights to write here."}, 403)
        elif self.path == "/api/repos/create":
            self._create(json.loads(body))
        elif self.path == "/api/validate-yaml":
            has_metadata = json.loads(body)["content"].startswith("---\n")
            self._answer({"errors": [], "warnings": []}, 200 if has_metadata else 400)
        elif self.path.endswith(".git/info/lfs/objects/batch"):
            self._answer({"objects": [self._lfs(one) for one in json.loads(body)["objects"]]})
        elif "/preupload/" in self.path:
            self._answer({"files": [self._mode(one) for one in json.loads(body)["files"]]})
        elif "/commit/" in self.path:
            self._commit([json.loads(line) for line in body.splitlines()])
        else:
            self._answer({"error": f"no {self.path} here"}, 404)

    def _create(self, asked: dict[str, Any]) -> None:
        name = f"{asked['organization']}/{asked['name']}"
        is_there = name in self.server.repositories
        if not is_there:
            is_private = asked.get("visibility") == "private" or bool(asked.get("private"))
            self.server.repositories[name] = Repository(is_private)
        self._answer({"url": f"{self.server.url}/{name}"}, 409 if is_there else 200)

    @staticmethod
    def _mode(asked: dict[str, Any]) -> dict[str, Any]:
        mode = "lfs" if asked["path"].endswith(".safetensors") else "regular"
        return {"path": asked["path"], "uploadMode": mode, "shouldIgnore": False}

    def _lfs(self, asked: dict[str, Any]) -> dict[str, Any]:
        if asked["oid"] in self.server.large:
            return asked
        return {**asked, "actions": {"upload": {"href": f"{self.server.url}/large/{asked['oid']}"}}}

    def _commit(self, lines: list[dict[str, Any]]) -> None:
        name = self.path.removeprefix("/api/models/").partition("/commit/")[0]
        files = {}
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.server.large[value["oid"]]
        self.server.repositories[name].commits.append(files)
        commit = f"{len(self.server.repositories[name].commits):040x}"
        url = f"{self.server.url}/{name}/commit/{commit}"
        self._answer({"success": True, "commitOid": commit, "commitUrl": url})

    def _body(self) -> bytes:
        if self.headers.get("transfer-encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("content-length", 0)))
        content = b""
        while size := int(self.rfile.readline(), 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return content

    def _answer(self, content: dict[str, Any], status: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def upload_hub() -> Iterator[UploadHub]:
    """One that runs."""
    yield from serve(UploadHub())
