"""Files that appear whole or not at all, and JSON read from them."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from calibri.errors import CalibriError


@contextmanager
def replacing(path: str | Path, *, durable: bool = False) -> Iterator[Path]:
    """A path to write to, in the same folder, that becomes `path` at the end of the `with`.

    Where the block fails, what stood at `path` stays and nothing is left beside it. Missing folders are made.
    `durable`: what was written is on the disk afterwards, also if the machine loses power. Raises OSError.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name[:100]}.{secrets.token_hex(6)}.part")
    try:
        yield part
        if durable:
            sync(part)
        os.replace(part, path)
        if durable and os.name == "posix":
            sync(path.parent)
    finally:
        part.unlink(missing_ok=True)


def write_whole(path: str | Path, content: str | bytes, *, durable: bool = False) -> None:
    """Writes `content` (texts as UTF-8) as `replacing` does. Raises OSError."""
    with replacing(path, durable=durable) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)


def read_object(path: Path, error: type[CalibriError]) -> dict[str, Any]:
    """The JSON object in a file. Raises `error` where it cannot be read or holds something else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise error(f"{path}: {problem}") from problem
    if not isinstance(content, dict):
        raise error(f"{path}: expected a JSON object, got {type(content).__name__}")
    return content


def sync(path: Path) -> None:
    """Waits until a file or a folder's list of files is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
