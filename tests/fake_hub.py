"""The part of the Hugging Face hub that this project needs, on loopback, for the hub's own client.

Repositories are dictionaries; a job is a real process that runs the job's own command, with a stand-in for uv
that gives the packages of this environment. Tokens: `hf_NAME` is the account NAME.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

COMMIT = "a" * 40
WHEN = "2026-11-01T12:00:00.000Z"
UV = """#!{python}
import os, sys
os.execv(sys.executable, [sys.executable, *sys.argv[sys.argv.index("python") + 1 :]])
"""


@dataclass
class Repository:
    """`gated`: whether its owner lets nobody in. `files`: path → content. `commits`: the messages."""

    private: bool
    gated: bool = False
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[str] = field(default_factory=list)


@dataclass
class Job:
    """A job as it was asked for, and its process."""

    id: str
    owner: str
    spec: dict[str, Any]
    process: subprocess.Popen | None = None
    canceled: bool = False
    out: Path | None = None

    @property
    def stage(self) -> str:
        code = self.process.poll() if self.process is not None else None
        if self.canceled:
            return "CANCELED"
        if self.process is None or code is None:
            return "RUNNING"
        return "COMPLETED" if code == 0 else "ERROR"

    def tell(self, stage: str = "") -> dict[str, Any]:
        owner = {"id": "1", "name": self.owner, "type": "user"}
        told = {
            name: self.spec.get(name)
            for name in ("command", "environment", "flavor", "dockerImage", "labels")
        }
        status = {"stage": stage or self.stage, "message": None}
        return {"id": self.id, "createdAt": WHEN, "owner": owner, "status": status, **told}


class FakeHub(ThreadingHTTPServer):
    """`credit`: whether accounts may run jobs. `run_jobs`: whether jobs are processes at all. `stage_of`:
    what is told of a job. `gated`: repository → the status that whoever asks for it gets. `asked`: (method,
    path, authorization) of each request."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.repos: dict[str, Repository] = {}
        self.jobs: dict[str, Job] = {}
        self.asked: list[tuple[str, str, str]] = []
        self.gated: dict[str, int] = {}
        self.credit = self.run_jobs = True
        self.stage_of: Callable[[Job], str] = lambda job: job.stage
        self.scopes = {"jobs", "contribute-repos"}
        uv = folder / "bin" / "uv"
        uv.parent.mkdir(parents=True)
        uv.write_text(UV.format(python=sys.executable), encoding="utf-8")
        uv.chmod(uv.stat().st_mode | stat.S_IXUSR)
        super().__init__(("127.0.0.1", 0), _Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def begin(self, owner: str, spec: dict[str, Any]) -> Job:
        job = Job(f"job{len(self.jobs)}", owner, spec)
        self.jobs[job.id] = job
        if self.run_jobs:
            home = self.folder / job.id
            home.mkdir()
            job.out = home / "log"
            environment = {
                **spec["environment"],
                **spec.get("secrets", {}),
                "HF_ENDPOINT": self.url,
                "HOME": str(home),
                "PATH": f"{self.folder / 'bin'}{os.pathsep}/usr/bin:/bin",
                "GOMP_SPINCOUNT": "1000",
            }
            with job.out.open("wb") as out:
                job.process = subprocess.Popen(
                    spec["command"], cwd=home, env=environment, stdout=out, stderr=subprocess.STDOUT
                )
        return job

    def close(self) -> None:
        for job in self.jobs.values():
            if job.process is not None and job.process.poll() is None:
                job.process.kill()
                job.process.wait(30)
        self.shutdown()
        self.server_close()


def point_at(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """The hub's client of this process asks there from now on."""
    from huggingface_hub import constants

    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


@contextmanager
def open_hub(folder: Path, monkeypatch: pytest.MonkeyPatch, token: str) -> Iterator[FakeHub]:
    """A hub that this process's client asks, with a cache of its own and a token of this machine."""
    from huggingface_hub import constants

    server = FakeHub(folder / "hub")
    point_at(monkeypatch, server.url)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(folder / "none"))
    monkeypatch.setenv("HF_TOKEN", token)
    yield server
    server.close()


class _Handler(BaseHTTPRequestHandler):
    server: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        """Nothing is printed."""

    def _answer(self, content: Any, status: int = 200, **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"content-type": "application/json", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _refuse(self, status: int, words: str, code: str = "") -> None:
        self._answer(
            {"error": words}, status, **({"x_error_code": code} if code else {}), x_error_message=words
        )

    def _handle(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        body = self.rfile.read(length) if length else b""
        if self.headers.get("transfer-encoding") == "chunked":
            body = self._chunks()
        authorization = self.headers.get("authorization", "")
        path = unquote(urlsplit(self.path).path)
        self.server.asked.append((self.command, self.path, authorization))
        account = authorization.removeprefix("Bearer hf_") if authorization else ""
        if not account:
            self._refuse(401, "Invalid username or password.")
            return
        for pattern, method, handler in ROUTES:
            found = re.fullmatch(pattern, path)
            if found and self.command in method:
                handler(self, account, body, *found.groups())
                return
        self._refuse(404, f"no route {self.command} {path}")

    do_GET = do_POST = do_HEAD = do_DELETE = _handle

    def _chunks(self) -> bytes:
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _repo(self, account: str, name: str) -> Repository | None:
        repo = self.server.repos.get(name)
        if name in self.server.gated:
            self._refuse(self.server.gated[name], f"Access to model {name} is restricted", "GatedRepo")
            return None
        if repo is None or (repo.private and not name.startswith(f"{account}/")):
            self._refuse(404, "Repository not found", "RepoNotFound")
            return None
        if repo.gated:
            self._refuse(403, "Access to this model is restricted", "GatedRepo")
            return None
        return repo

    # accounts and repositories

    def whoami(self, account: str, body: bytes) -> None:
        self._answer({"type": "user", "name": account, "orgs": [], "auth": {"type": "oauth"}})

    def create(self, account: str, body: bytes) -> None:
        asked = json.loads(body)
        if "contribute-repos" not in self.server.scopes:
            self._refuse(403, "Your token has no scope to create repositories")
            return
        name = f"{asked.get('organization') or account}/{asked['name']}"
        private = asked.get("visibility") == "private" or bool(asked.get("private"))
        if name in self.server.repos:
            self._answer(
                {"url": f"{self.server.url}/{name}", "error": "You already created this repository"}, 409
            )
            return
        self.server.repos[name] = Repository(private)
        kind = "" if asked.get("type", "model") == "model" else f"{asked['type']}s/"
        self._answer({"url": f"{self.server.url}/{kind}{name}", "name": name, "id": "1"})

    def delete(self, account: str, body: bytes) -> None:
        asked = json.loads(body)
        del self.server.repos[f"{asked.get('organization') or account}/{asked['name']}"]
        self._answer({})

    def datasets(self, account: str, body: bytes) -> None:
        query = parse_qs(urlsplit(self.path).query)
        [author], [word] = query["author"], query["search"]
        names = [name for name in self.server.repos if name.startswith(f"{author}/") and word in name]
        self._answer(
            [{"id": name, "private": True, "createdAt": WHEN, "_id": "1"} for name in reversed(names)]
        )

    def info(self, account: str, body: bytes, name: str) -> None:
        if (repo := self._repo(account, name)) is not None:
            files = [{"rfilename": path} for path in repo.files]
            self._answer({"id": name, "_id": "1", "sha": COMMIT, "private": repo.private, "siblings": files})

    def tree(self, account: str, body: bytes, name: str) -> None:
        if (repo := self._repo(account, name)) is not None:
            self._answer(
                [
                    {"type": "file", "path": path, "size": len(data), "oid": _oid(data)}
                    for path, data in repo.files.items()
                ]
            )

    def preupload(self, account: str, body: bytes, name: str) -> None:
        if self._repo(account, name) is not None:
            files = [
                {"path": each["path"], "uploadMode": "regular", "shouldIgnore": False, "oid": None}
                for each in json.loads(body)["files"]
            ]
            self._answer({"files": files})

    def commit(self, account: str, body: bytes, name: str) -> None:
        if (repo := self._repo(account, name)) is None:
            return
        for line in body.decode().splitlines():
            entry = json.loads(line)
            if entry["key"] == "header":
                repo.commits.append(entry["value"]["summary"])
            elif entry["key"] == "file":
                repo.files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
        self._answer({"commitUrl": f"{self.server.url}/datasets/{name}/commit/{COMMIT}", "commitOid": COMMIT})

    def resolve(self, account: str, body: bytes, name: str, revision: str, path: str) -> None:
        if (repo := self._repo(account, name)) is None:
            return
        if revision not in ("main", COMMIT):
            self._refuse(404, "Invalid rev id", "RevisionNotFound")
            return
        if path not in repo.files:
            self._refuse(404, "Entry not found", "EntryNotFound")
            return
        data = repo.files[path]
        self._answer(data, etag=f'"{_oid(data)}"', x_repo_commit=_oid(b"".join(repo.files.values())))

    # jobs

    def begin(self, account: str, body: bytes, owner: str) -> None:
        if "jobs" not in self.server.scopes:
            self._refuse(403, "Your token has no scope to run jobs")
        elif not self.server.credit:
            self._refuse(402, "Your account has no credit")
        elif owner != account:
            self._refuse(403, "Not your namespace")
        else:
            self._answer(self.server.begin(owner, json.loads(body)).tell())

    def inspect(self, account: str, body: bytes, owner: str, job: str) -> None:
        found = self.server.jobs.get(job)
        if found is None or found.owner != account:
            self._refuse(404, "Job not found")
        else:
            self._answer(found.tell(self.server.stage_of(found)))

    def cancel(self, account: str, body: bytes, owner: str, job: str) -> None:
        found = self.server.jobs[job]
        found.canceled = True
        if found.process is not None:
            found.process.terminate()
        self._answer(found.tell())


def _oid(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


NAME = r"([\w.-]+/[\w.-]+)"
ROUTES = (
    (r"/api/whoami-v2", ("GET",), _Handler.whoami),
    (r"/api/validate-yaml", ("POST",), lambda handler, account, body: handler._answer({})),
    (r"/api/repos/create", ("POST",), _Handler.create),
    (r"/api/repos/delete", ("DELETE",), _Handler.delete),
    (r"/api/datasets", ("GET",), _Handler.datasets),
    (rf"/api/(?:datasets|models)/{NAME}/preupload/main", ("POST",), _Handler.preupload),
    (rf"/api/(?:datasets|models)/{NAME}/commit/main", ("POST",), _Handler.commit),
    (rf"/api/(?:datasets|models)/{NAME}/tree/[\w.-]+", ("GET",), _Handler.tree),
    (rf"/api/(?:datasets|models)/{NAME}(?:/revision/[\w.-]+)?", ("GET",), _Handler.info),
    (rf"(?:/datasets)?/{NAME}/resolve/([\w.-]+)/(.+)", ("GET", "HEAD"), _Handler.resolve),
    (r"/api/jobs/([\w.-]+)", ("POST",), _Handler.begin),
    (r"/api/jobs/([\w.-]+)/(\w+)", ("GET",), _Handler.inspect),
    (r"/api/jobs/([\w.-]+)/(\w+)/cancel", ("POST",), _Handler.cancel),
)
