"""docs/library.md: its examples run, and it speaks of every public name."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import calibri
from calibri.backbones.sites import FAMILIES

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "library.md").read_text(encoding="utf-8")


def test_every_example_runs(tmp_path: Path) -> None:
    """One after the other in one new interpreter, from a folder where the repository's files are in reach."""
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 9
    for name in ("assets", "tests"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "page.py").write_text("\n".join(blocks), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "page.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert "expected a calibration of this FluxTransformer2DModel" in done.stdout
    assert {path.name for path in tmp_path.iterdir()} >= {"folded", "imported.json", "first.json", "run"}


def test_every_public_name_is_explained() -> None:
    missing = [name for name in calibri.__all__ if not re.search(rf"\b{name}\b", PAGE)]
    assert missing in ([], ["__version__"])


def test_the_known_transformers_are_named() -> None:
    assert [name for name in FAMILIES if f"`{name}`" not in PAGE] == []


def test_links_lead_to_headings() -> None:
    headings = {
        re.sub(r"[^\w -]", "", line).strip().lower().replace(" ", "-")
        for line in re.findall(r"^#+ (.*)$", PAGE, flags=re.MULTILINE)
    }
    assert set(re.findall(r"\]\(#([\w-]+)\)", PAGE)) <= headings
