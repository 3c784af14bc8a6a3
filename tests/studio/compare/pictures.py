"""What the tests of Compare share: a small form, and pictures and captions as they are told apart."""

from __future__ import annotations

import numpy as np

from studio.compare.form import Form
from studio.rendering.shots import Shot
from studio.rendering.view import write_captions

CUBE = Form("a red cube", 3, 2)


def pixels(image) -> np.ndarray:
    return np.asarray(image)


def caption_of(shot: Shot, base: Shot | None) -> str:
    return write_captions([shot], base)[0]
