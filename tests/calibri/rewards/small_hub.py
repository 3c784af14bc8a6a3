"""A hub of one machine: enough of the Hugging Face hub's HTTP for huggingface_hub to list and download."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class _Handler(BaseHTTPRequestHandler):
    server: SmallHub

    def log_message(self, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        path = unquote(self.path.split("?")[0]).strip("/")
        self.server.asked.append(path)
        parts = path.removeprefix("api/models/").split("/")
        repository = "/".join(parts[:2])
        if repository not in self.server.folders:
            return self._send(404, {"X-Error-Code": "RepoNotFound"})
        folder = self.server.folders[repository]
        if folder is None:
            return self._send(403, {"X-Error-Code": "GatedRepo"})
        revision = parts[3] if len(parts) > 3 else "main"
        if revision not in ("main", COMMIT):
            return self._send(404, {"X-Error-Code": "RevisionNotFound"})
        files = {p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob("*")) if p.is_file()}
        if path.startswith("api/models/") and len(parts) > 2 and parts[2] == "tree":
            tree = [
                {
                    "type": "file",
                    "path": name,
                    "size": p.stat().st_size,
                    "oid": hashlib.sha1(p.read_bytes()).hexdigest(),
                }
                for name, p in files.items()
            ]
            return self._send(200, {"Content-Type": "application/json"}, json.dumps(tree).encode(), body)
        if path.startswith("api/models/"):
            about = {
                "id": repository,
                "modelId": repository,
                "sha": COMMIT,
                "private": False,
                "tags": [],
                "downloads": 0,
                "likes": 0,
                "siblings": [{"rfilename": name} for name in files],
            }
            return self._send(200, {"Content-Type": "application/json"}, json.dumps(about).encode(), body)
        name = "/".join(parts[4:])
        if name not in files:
            return self._send(404, {"X-Error-Code": "EntryNotFound"})
        content = files[name].read_bytes()
        etag = hashlib.sha256(content).hexdigest()
        return self._send(200, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}, content, body)

    def _send(self, status: int, headers: dict[str, str], content: bytes = b"", body: bool = True) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)


class SmallHub(ThreadingHTTPServer):
    """`folders`: repository → its folder, or None for one that asks for an agreement."""

    def __init__(self, folders: dict[str, Path | None]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folders = folders
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def small_hub(folders: dict[str, Path | None]) -> Iterator[SmallHub]:
    server = SmallHub(folders)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
