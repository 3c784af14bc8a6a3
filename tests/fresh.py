"""A new interpreter that knows nothing of this one's modules, settings and environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def run_fresh(code: str, cwd: Path, *more: Path) -> str:
    """What this code prints when it starts in the folder `cwd`. It imports from here and from `more`."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        env={
            "PYTHONPATH": os.pathsep.join(map(str, (ROOT, *more))),
            "PATH": "",
            "HOME": str(cwd),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
