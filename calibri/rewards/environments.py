"""Environments of their own for what cannot live beside this one's packages, made once by uv or by pip."""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import platform
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import PathFinder
from pathlib import Path
from typing import NamedTuple

from calibri.errors import RewardError
from calibri.files import cache_folder, write_whole
from calibri.words import without_paths

log = logging.getLogger(__name__)

DONE = "calibri.json"  # written last: a folder without it is made anew
_SECONDS = 3600.0  # of one step, at most
_VERSION = re.compile(r"3\.\d+")
_LIST = (
    "import importlib.metadata as m; print('\\n'.join(sorted({f\"{d.metadata['Name']}=={d.version}\".lower() "
    "for d in m.distributions()})))"
)


class Environment(NamedTuple):
    """`python`: its interpreter. `packages`: 8 hexadecimal digits for all that is installed there."""

    python: Path
    packages: str


def make_environment(
    requirements: Sequence[str], python: str = "", *, name: str = "", folder: Path | None = None
) -> Environment:
    """The environment with these requirements, made if it is not there yet; with Pillow in any case.

    `python`: a version such as 3.10; empty for this interpreter's. `name`: of the reward, for messages.
    `folder`: where environments lie; by default in the project's cache. What is there is used without asking
    the network. Several processes may ask at once. Raises RewardError.
    """
    label = f"{name}: " if name else ""
    wanted = _with_pillow(requirements, label)
    if python and not _VERSION.fullmatch(python):
        raise RewardError(f"{label}expected a version of Python such as 3.10, got {python!r}")
    version = python or f"{sys.version_info.major}.{sys.version_info.minor}"
    key = make_key(wanted, version)
    root = cache_folder("reward-environments") if folder is None else folder
    place = root / key
    if (found := _find(place)) is not None:
        return found
    try:
        with _lock(root, key, label):
            return _find(place) or _make(place, wanted, version, label)
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise RewardError(f"{label}its environment cannot be made: {why}") from error


def make_key(requirements: Sequence[str], version: str) -> str:
    """The name of the folder of these requirements, in any order, on this kind of machine."""
    machine = f"{sys.platform} {platform.machine()}"
    parts = {"requirements": sorted(requirements), "python": version, "machine": machine}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _with_pillow(requirements: Sequence[str], label: str) -> list[str]:
    wanted = [text.strip() for text in requirements if text.strip()]
    if any("\n" in text or "\r" in text for text in wanted):
        raise RewardError(f"{label}expected one requirement a text, got a line break in one")
    names = {re.split(r"[^\w.-]", text.lower(), maxsplit=1)[0] for text in wanted}
    return wanted if "pillow" in names else [*wanted, "pillow"]


def _interpreter(place: Path) -> Path:
    return place / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _find(place: Path) -> Environment | None:
    """A whole environment at this place."""
    try:
        packages = str(json.loads((place / DONE).read_text(encoding="utf-8"))["packages"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    python = _interpreter(place)
    return Environment(python, packages) if python.exists() else None


@contextmanager
def _lock(root: Path, key: str, label: str) -> Iterator[None]:
    """One maker at a time; the lock is the kernel's and ends with its process."""
    root.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(root / f"{key}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say(f"{label}another process makes its environment; waiting for it …")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _make(place: Path, wanted: list[str], version: str, label: str) -> Environment:
    shutil.rmtree(place, ignore_errors=True)  # what was left half-built
    uv = _find_uv()
    tool = "uv" if uv else "pip"
    _say(f"{label}making its environment with {tool}, once: {', '.join(wanted)} …")
    if uv:
        own = version == f"{sys.version_info.major}.{sys.version_info.minor}"
        _run([*uv, "venv", "--quiet", "--python", sys.executable if own else version, str(place)], label)
    else:
        bare = ["--without-pip"] if _has_module("pip") else []  # ours installs into it, in half the time
        _run([_find_python(version, label), "-m", "venv", *bare, str(place)], label)
    python = _interpreter(place)
    listed = place / "requirements.txt"
    write_whole(listed, "\n".join(wanted) + "\n")
    if uv:
        install = [*uv, "pip", "install", "--python", str(python)]
    elif _has_module("pip"):
        install = [sys.executable, "-m", "pip", "--python", str(python), "install"]
    else:
        install = [str(python), "-m", "pip", "install"]
    _run([*install, "-r", str(listed)], label)
    packages = _run([str(python), "-I", "-c", _LIST], label, show=False)
    digest = hashlib.sha256(packages.encode()).hexdigest()[:8]
    content = {"python": version, "packages": digest, "requirements": wanted, "installed": packages.split()}
    write_whole(place / DONE, json.dumps(content, indent=1), durable=True)
    _say(f"{label}its environment is made: {len(packages.split())} packages")
    return Environment(python, digest)


def _find_uv() -> list[str]:
    """How uv is called; nothing where it is not there."""
    if (program := shutil.which("uv")) is not None:
        return [program]
    return [sys.executable, "-m", "uv"] if _has_module("uv") else []


def _has_module(name: str) -> bool:
    """Whether this interpreter has it."""
    # Not importlib.util.find_spec: it asks setuptools' finder too, and that, asked for pip, stops to stand in
    # for distutils in this whole process. torch.compile then fails.
    return PathFinder.find_spec(name) is not None


def _find_python(version: str, label: str) -> str:
    if version == f"{sys.version_info.major}.{sys.version_info.minor}":
        return sys.executable
    if (program := shutil.which(f"python{version}")) is not None:
        return program
    raise RewardError(
        f"{label}its environment needs Python {version}, which is not here: install it, or uv, which brings "
        "it (pip install uv)"
    )


def _run(command: list[str], label: str, *, show: bool = True) -> str:
    """What a command prints, shown as it comes. Raises RewardError with its last words where it fails."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("CALIBRI_")}
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=environment,
        )
    except OSError as error:
        raise RewardError(f"{label}{Path(command[0]).name} cannot be run: {error.strerror}") from error
    clock = threading.Timer(_SECONDS, process.kill)
    clock.start()
    lines: list[str] = []
    try:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(without_paths(line.rstrip()))
            if show and lines[-1]:
                _say(f"  {lines[-1]}")
        code = process.wait()
    finally:
        clock.cancel()
        process.kill()
        process.wait()
    if code != 0:
        raise RewardError(f"{label}its environment cannot be made: {_last_words(lines, code)}")
    return "\n".join(lines)


def _last_words(lines: list[str], code: int) -> str:
    """What went wrong, of what uv or pip printed."""
    said = [line for line in lines if line.strip()]
    first = next((k for k, line in enumerate(said) if re.match(r"\s*(error|×|ERROR)", line)), len(said) - 3)
    words = " ".join(re.sub(r"[│╰─▶×├]", " ", " ".join(said[max(0, first) :])).split())
    return words[:400] or f"exit status {code}"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
