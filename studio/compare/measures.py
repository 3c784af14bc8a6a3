"""What is measured on compared pictures: how two differ, and means over many. No Gradio."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from calibri.errors import RenderError
from studio.rendering.shots import Comparison, Shot

if TYPE_CHECKING:
    from PIL.Image import Image


#: Anchors of the difference map, from equal to most different; lightness rises all the way.
MAP = ((0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164))
BRIGHTEST = 128  # levels of 255: where the map ends
NOTICED = 16


def measure_difference(a: Image, b: Image) -> tuple[Image, str]:
    """The absolute difference of two pictures of one size, as a picture and in words.

    Each pixel stands for the largest of its three colour differences. Raises RenderError for two sizes.
    """
    import numpy as np
    from PIL import Image as pil

    if a.size != b.size:
        raise RenderError(f"Expected two pictures of one size, got {a.size} and {b.size}.")
    one, two = (np.asarray(image.convert("RGB"), dtype=np.int16) for image in (a, b))
    levels = np.abs(one - two).max(axis=2)
    at = np.clip(levels / BRIGHTEST, 0, 1)
    stops = np.linspace(0, 1, len(MAP))
    colours = np.stack([np.interp(at, stops, [anchor[c] for anchor in MAP]) for c in range(3)], axis=2)
    if not levels.any():
        words = "The two pictures are the same in every pixel."
    else:
        words = (
            f"Mean difference {levels.mean():.1f} of 255 levels, the largest {levels.max()}; "
            f"{100 * (levels > NOTICED).mean():.0f} % of the pixels differ by more than {NOTICED}."
        )
    return pil.fromarray(colours.round().astype(np.uint8)), words


def find_reference(row: Sequence[Shot]) -> Shot | None:
    """The shot that rewards are compared with: the first base that was rendered."""
    return next((s for s in row if s.arm.kind == "base" and s.image is not None), None)


def compute_means(comparison: Comparison) -> list[dict[str, Any]]:
    """One row for each arm over all prompts and seeds: name, kind, steps, nfe, seconds, n, rewards.

    `rewards`: for each its mean and the Interval of its paired difference from base, None below two pairs.
    """
    from calibri.interval import paired_interval

    rows: list[dict[str, Any]] = []
    references = [find_reference(row) for row in comparison.rows]
    for column, first in enumerate(comparison.shots):
        shots = [row[column] for row in comparison.rows]
        made = [s for s in shots if s.image is not None]
        if not made:
            continue
        rewards = {}
        for reward in made[0].rewards:
            pairs = [
                s.rewards[reward] - r.rewards[reward]
                for s, r in zip(shots, references)
                if r is not None and r is not s and reward in s.rewards and reward in r.rewards
            ]
            mean = sum(s.rewards[reward] for s in made) / len(made)
            rewards[reward] = (mean, paired_interval(pairs) if len(pairs) > 1 else None)
        rows.append(
            {
                "name": first.arm.name,
                "kind": first.arm.kind,
                "steps": first.ask.steps,
                "nfe": made[0].nfe,
                "seconds": sum(s.seconds for s in made) / len(made),
                "n": len(made),
                "rewards": rewards,
            }
        )
    return rows
