"""Secrets that a data folder keeps."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path


def open_secret(path: Path, given: str = "") -> Callable[[], bytes]:
    """A function that returns the 32 secret bytes in `path`: created at first use, for its owner only, at
    random or from the text `given`, so that a machine whose disk was emptied makes the same ones.

    A studio keeps such files beside its database, not in it: exports and snapshots never contain a secret.
    """

    @cache
    def secret() -> bytes:
        try:
            return path.read_bytes()
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{secrets.token_hex(4)}")
        part.touch(mode=0o600)
        part.write_bytes(hashlib.sha256(given.encode()).digest() if given else secrets.token_bytes(32))
        with suppress(FileExistsError):  # the first of two processes wins; the other reads its bytes
            os.link(part, path)
        part.unlink()
        return path.read_bytes()

    return secret
