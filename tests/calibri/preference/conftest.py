from __future__ import annotations

from typing import Any

import pytest

from calibri.preference import Vote
from calibri.preference.votes import Answer


def make(word: Answer, *, rater: str = "r", prompt: str = "p", **more: Any) -> Vote:
    """A vote on arms a (x) and b (y)."""
    values: dict[str, Any] = {"question": "q", "arm_x": "a", "arm_y": "b", "pair": prompt, **more}
    return Vote(prompt=prompt, rater=rater, winner=word, **values)


@pytest.fixture
def vote():
    return make


@pytest.fixture
def grid():
    """Answers as a table: grid("xx-y", "xtxx") is two raters on four prompts, '-' for not judged."""
    words: dict[str, Answer] = {"x": "x", "y": "y", "t": "tie", "b": "both_bad", "s": "skip"}

    def build(*rows: str, **more: object) -> list[Vote]:
        return [
            make(words[letter], rater=f"r{i}", prompt=f"p{j}", **more)
            for i, row in enumerate(rows)
            for j, letter in enumerate(row)
            if letter != "-"
        ]

    return build
