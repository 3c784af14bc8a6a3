"""`hpsv3-package`: HPSv3 by its authors' own package, to check `hpsv3` against it."""

from __future__ import annotations

from pathlib import Path

from calibri.rewards.catalog import CATALOG
from calibri.rewards.worker import WorkerReward, WorkerSpec

# matplotlib and tensorboard are imported by hpsv3 and missing from its requirements. trl: the last that knows
# what it imports.
REQUIREMENTS = ("hpsv3==1.0.0", "trl==0.12.2", "matplotlib", "tensorboard")


def make_spec(source: str | Path, dtype: str) -> WorkerSpec:
    """What its worker needs. `dtype`: auto is the authors' bfloat16."""
    spec = CATALOG["hpsv3-package"]
    return WorkerSpec(
        place="hpsv3_adapter.py:HPSv3",
        requirements=REQUIREMENTS,
        options={"source": str(source), "dtype": "bfloat16" if dtype == "auto" else dtype},
        kind=spec.kind,
        description=spec.summary,
        licence=spec.licence,
        range_hint=spec.range_hint,
        batch=4,
    )


class HPSv3Package(WorkerReward):
    """HPSv3 in an environment of its own. `python`: an interpreter that has the package already."""

    def __init__(
        self,
        device: str = "cpu",
        source: str | Path | None = None,
        dtype: str = "auto",
        *,
        python: Path | None = None,
    ) -> None:
        spec = make_spec(source or CATALOG["hpsv3-package"].source, dtype)
        super().__init__(spec, "hpsv3-package", device, folder=Path(__file__).parent, python=python)
