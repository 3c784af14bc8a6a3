"""How and when a result was made."""

from __future__ import annotations

import platform
import time
from importlib import metadata


def now() -> str:
    """The time for the log, UTC, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    found = {"python": platform.python_version()}
    for name in ("torch", "diffusers", "transformers", "cma", "numpy"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "missing"
    return found
