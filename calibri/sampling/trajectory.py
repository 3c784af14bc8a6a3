"""Where on its trajectory a pipeline is."""

from __future__ import annotations

from typing import Any

from calibri.errors import RenderError


def find_step(pipeline: Any, steps: int | None = None) -> int:
    """The step, from 0, for which the transformer is called now; of `steps`, or of as many as `count_steps`
    says. Raises RenderError for a pipeline that does not tell."""
    at, count = _place(pipeline)
    return at if steps is None or steps == count else min(steps - 1, at * steps // count)


def count_steps(pipeline: Any) -> int:
    """Steps of the whole trajectory, from noise to picture: those that image-to-image leaves out too."""
    return _place(pipeline)[1]


def _place(pipeline: Any) -> tuple[int, int]:
    scheduler = getattr(pipeline, "scheduler", None)
    times = getattr(scheduler, "timesteps", None)
    if scheduler is None or times is None or not len(times) or not hasattr(scheduler, "step_index"):
        raise RenderError(
            f"{type(pipeline).__name__} does not tell at which step it is: expected members that count at "
            "every step"
        )
    at = scheduler.step_index
    if at is None:  # before the first step
        at = getattr(scheduler, "begin_index", None) or 0
    return min(int(at), len(times) - 1), len(times)
