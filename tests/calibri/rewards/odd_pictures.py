"""Pictures of other modes and sizes than people send, and what every reward makes of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image


def score_odd(
    reward, case, sizes: Sequence[tuple[int, int]], largest: tuple[int, int], more: Sequence[Image.Image] = ()
) -> np.ndarray:
    """Scores of one picture as RGBA, L, P and 16 bits, of red ones of these sizes, of the picture in its
    `largest` size, and of `more`; transparency and bits change nothing.
    """
    rgb = case.images[0].convert("RGB")
    levels = np.asarray(rgb.convert("L"))
    modes = [rgb.convert(mode) for mode in ("RGBA", "L", "P")]
    deep = Image.fromarray(levels.astype(np.uint16) * 257)
    red = [Image.new("RGB", size, "red") for size in sizes]
    images = [*modes, deep, *red, rgb.resize(largest), *more]
    scores = reward.score(images, [case.prompts[0]] * len(images))
    assert np.isfinite(scores).all()
    assert np.isclose(scores[0], reward.score([rgb], case.prompts[:1])[0])  # transparency is left out
    assert np.isclose(scores[1], scores[3], atol=1e-6)
    return scores
