"""What of a prompt a family's encoder does not read changes nothing; the rest does."""

from __future__ import annotations

import pytest
import torch

from calibri.errors import RenderError
from tests.tiny_pipelines import TINY, opened

# Qwen-Image 2.1 reads all, Ideogram 4 refuses what is too long; FLUX.1, SD3, Qwen-Image: see test_unread.py.
OTHERS = ("qwen-2.1", "ideogram4", "flux", "sd3", "qwen")
CUT = [name for name, tiny in TINY.items() if tiny.call is None and name not in OTHERS]
LONG = "a red cube on a green hill by the blue sea " * 30


def same(a: dict, b: dict) -> bool:
    return all(a[n].shape == b[n].shape and torch.equal(a[n], b[n]) for n in a)


@pytest.mark.parametrize("name", CUT)
def test_what_is_not_read_changes_nothing(name):
    adapter = opened(name).adapter

    def encode(prompt: str) -> dict:
        found = adapter.encode(prompt)  # HiDream's CLIPs and its Llama cut in other places than its T5
        return {"tokens": found["prompt_embeds_t5"]} if name == "hidream" else dict(found)

    end = adapter.unread(LONG)
    assert 0 < len(end) < len(LONG)
    read, (word, _, rest) = LONG.strip()[: -len(end)], end.partition(" ")  # a word may be read in part
    found = encode(LONG)
    assert same(encode(f"{read}{word} {'x' * len(rest)}"), found)
    assert not same(encode(read[:-3] + "zz " + end), found)
    assert adapter.unread("a") == ""


def test_what_is_always_read_is_told_so():
    assert opened("qwen-2.1").adapter.unread(LONG) == ""
    assert opened("ideogram4").adapter.unread(LONG) == ""
    with pytest.raises(RenderError, match="exceeds max_sequence_length"):
        opened("ideogram4").adapter.encode(LONG)
