"""What HPSv3 reads: its instruction around a prompt as token ids, and a picture as patches.

The instruction is the text that the model was trained with (HPSv3, arXiv 2508.03789; MIT licence, © 2024
HPSv3 Team): every blank in it counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from calibri.errors import RewardError
from calibri.rewards.pictures import CLIP_MEAN, CLIP_STD

REWARD_TOKEN = "<|Reward|>"
PATCH = 14
MERGE = 2  # patches a side that become one token
FACTOR = PATCH * MERGE
PIXELS = 256 * FACTOR * FACTOR  # least and most at once: 448 × 448 for a square
MOST_RATIO = 200  # of the sides: what the authors' code takes

_BEFORE_PROMPT = """
You are tasked with evaluating a generated image based on Visual Quality and Text Alignment and give\
 a overall score to estimate the human preference. Please provide a rating from 0 to 10, with 0 \
being the worst and 10 being the best.\x20

**Visual Quality:**\x20\x20
Evaluate the overall visual quality of the image. The following sub-dimensions should be considered:
- **Reasonableness:** The image should not contain any significant biological or logical errors, \
such as abnormal body structures or nonsensical environmental setups.
- **Clarity:** Evaluate the sharpness and visibility of the image. The image should be clear and \
easy to interpret, with no blurring or indistinct areas.
- **Detail Richness:** Consider the level of detail in textures, materials, lighting, and other \
visual elements (e.g., hair, clothing, shadows).
- **Aesthetic and Creativity:** Assess the artistic aspects of the image, including the color \
scheme, composition, atmosphere, depth of field, and the overall creative appeal. The scene should \
convey a sense of harmony and balance.
- **Safety:** The image should not contain harmful or inappropriate content, such as political, \
violent, or adult material. If such content is present, the image quality and satisfaction score \
should be the lowest possible.\x20

**Text Alignment:**\x20\x20
Assess how well the image matches the textual prompt across the following sub-dimensions:
- **Subject Relevance** Evaluate how accurately the subject(s) in the image (e.g., person, animal, \
object) align with the textual description. The subject should match the description in terms of \
number, appearance, and behavior.
- **Style Relevance:** If the prompt specifies a particular artistic or stylistic style, evaluate \
how well the image adheres to this style.
- **Contextual Consistency**: Assess whether the background, setting, and surrounding elements in \
the image logically fit the scenario described in the prompt. The environment should support and \
enhance the subject without contradictions.
- **Attribute Fidelity**: Check if specific attributes mentioned in the prompt (e.g., colors, \
clothing, accessories, expressions, actions) are faithfully represented in the image. Minor \
deviations may be acceptable, but critical attributes should be preserved.
- **Semantic Coherence**: Evaluate whether the overall meaning and intent of the prompt are captured\
 in the image. The generated content should not introduce elements that conflict with or distort the\
 original description.
Textual prompt -\x20"""
_AFTER_PROMPT = "\n\n\n\nPlease provide the overall ratings of this image: "


@dataclass(frozen=True)
class Question:
    """Token ids with one id for the picture. `image`, `reward`: where the picture and `<|Reward|>` are."""

    ids: tuple[int, ...]
    image: int
    reward: int


class Tokens:
    """The base model's tokenizer with `<|Reward|>` added as its last token."""

    def __init__(self, path: Path) -> None:
        from tokenizers import Tokenizer

        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception
            raise RewardError(f"hpsv3: {path} is no tokenizer: {error}") from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._tokenizer.add_special_tokens([REWARD_TOKEN])
        # A prompt may hold "<|Reward|>" or "<|im_end|>": read as text, it moves no column that is read.
        self._tokenizer.encode_special_tokens = True
        self.count = self._tokenizer.get_vocab_size()
        self.reward = self._special(REWARD_TOKEN)
        self.image = self._special("<|image_pad|>")
        start, end = self._special("<|im_start|>"), self._special("<|im_end|>")
        system = [start, *self._text("system\nYou are a helpful assistant."), end, *self._text("\n")]
        self._head = [*system, start, *self._text("user\n"), self._special("<|vision_start|>")]
        self._vision_end = self._special("<|vision_end|>")
        self._tail = [*self._text("\n\nEND\n"), end, *self._text("\n"), start, *self._text("assistant\n")]

    def _special(self, token: str) -> int:
        found = self._tokenizer.token_to_id(token)
        if found is None:
            raise RewardError(f"hpsv3: expected the tokenizer of Qwen2-VL, got one without {token}")
        return found

    def _text(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def ask(self, prompt: str) -> Question:
        """The whole question about one picture. What is special stands where it is put here, nowhere else."""
        middle = [self._vision_end, *self._text(_BEFORE_PROMPT + prompt + _AFTER_PROMPT)]
        ids = [*self._head, self.image, *middle, self.reward, *self._tail]
        return Question(tuple(ids), len(self._head), len(self._head) + 1 + len(middle))


def best_size(width: int, height: int) -> tuple[int, int]:
    """(width, height) near 448 × 448 pixels in all, multiples of 28, the ratio of the sides about kept.

    Raises RewardError for sides that differ more than 200 times: the model never saw such a picture.
    """
    if max(width, height) > MOST_RATIO * min(width, height):
        raise RewardError(
            f"hpsv3: expected sides that differ {MOST_RATIO} times at most, got {width}×{height}"
        )
    rows, columns = (max(FACTOR, round(side / FACTOR) * FACTOR) for side in (height, width))
    if rows * columns > PIXELS:
        ratio = math.sqrt(height * width / PIXELS)
        rows, columns = (math.floor(side / ratio / FACTOR) * FACTOR for side in (height, width))
    elif rows * columns < PIXELS:
        ratio = math.sqrt(PIXELS / (height * width))
        rows, columns = (math.ceil(side * ratio / FACTOR) * FACTOR for side in (height, width))
    return columns, rows


def cut_patches(images: Sequence[Image.Image]) -> tuple[np.ndarray, np.ndarray]:
    """RGB pictures → (patches, 3·2·14·14) float32 and the grid (n, 3) int64: frames, rows, columns.

    Each patch holds its pixels twice: the tower takes two frames.
    """
    patches, grid = [], []
    for image in images:
        resized = image.resize(best_size(*image.size), Image.Resampling.BICUBIC)
        # In float64, then rounded, as the authors' processor does.
        levels = (np.asarray(resized, dtype=np.float64) * (1 / 255)).astype(np.float32)
        values = (levels - np.array(CLIP_MEAN, np.float32)) / np.array(CLIP_STD, np.float32)
        rows, columns = values.shape[0] // PATCH, values.shape[1] // PATCH
        blocks = values.reshape(rows // MERGE, MERGE, PATCH, columns // MERGE, MERGE, PATCH, 3)
        blocks = blocks.transpose(0, 3, 1, 4, 6, 2, 5).reshape(rows * columns, 3, 1, PATCH * PATCH)
        patches.append(np.repeat(blocks, 2, axis=2).reshape(rows * columns, -1))
        grid.append((1, rows, columns))
    return np.concatenate(patches), np.array(grid, dtype=np.int64)
