"""What a backbone does not read of a prompt is found, said in one sentence, and never logged."""

import logging
import threading
from pathlib import Path

import pytest
import torch

from calibri.backbones.unread import note_unread
from calibri.cli import main
from tests.tiny import TOKENS, tiny_backbone

CASE = Path(__file__).parents[2] / "data" / "prompts" / "prompts_longer_than_the_encoder.txt"


@pytest.fixture(scope="module")
def tiny():
    return tiny_backbone()


@pytest.mark.parametrize(
    "prompt", ["a", "a red cube", "abcdefghijklm", "a red cube on a table", "x" * 40, "1 2 3 4 5 6 7 8 9"]
)
def test_what_is_left_out_changes_nothing_and_what_stays_does(tiny, prompt):
    """The tiny encoder has a token for each letter and space; one more marks the end."""
    end = tiny.adapter.unread(prompt)
    read = prompt[: len(prompt) - len(end)] if end else prompt
    assert prompt.endswith(end) and bool(end) == (len(prompt) > TOKENS - 2)

    def embed(text):
        return tiny.adapter.encode(text)["prompt_embeds"]

    if end and end != prompt:
        assert torch.equal(embed(prompt), embed(prompt + " and a blue ball"))
        assert not torch.equal(embed(prompt), embed("b" + prompt[1:]))
    assert read


def test_short_prompts_are_no_matter_for_words(tiny):
    assert note_unread(tiny.adapter, "tiny", ["a red cube", "a cone"]) == ""
    assert note_unread(tiny.adapter, "tiny", []) == ""


def test_one_sentence_for_however_many(tiny):
    one = note_unread(tiny.adapter, "tiny", ["a red cube on a table"])
    assert one == f"tiny reads {TOKENS} tokens: the end of the prompt, “a table”, is not read."
    many = note_unread(tiny.adapter, "tiny", [*(f"a red cube on a table {i}" for i in range(50)), "a cone"])
    assert "the end of 50 of 51 prompts is not read, such as “a table 0”" in many and "\n" not in many


def test_encoding_logs_nothing_of_it(tiny, caplog):
    with caplog.at_level(logging.WARNING):
        tiny.adapter.encode("a red cube on a table in a room")
    assert not [r for r in caplog.records if "truncated" in r.getMessage() or "longer than" in r.getMessage()]


def test_render_says_it_once(tmp_path, capsys):
    prompts = CASE.read_text().splitlines()
    for prompt in prompts:
        done = main(["render", prompt, "--steps", "1", "--count", "2", "-o", str(tmp_path / "a.png")])
        err = capsys.readouterr().err
        assert done == 0 and err.count("is not read") == 1 and "truncated" not in err
        assert "tabletop reads 24 tokens" in err and prompt.split()[-1] in err


def test_asking_what_is_not_read_never_disturbs_a_render_in_another_thread(tiny):
    """A call of a tokenizer sets how it cuts, which all threads share."""
    prompts = [f"a red cube on a table number {i}" for i in range(40)]
    wanted = [tiny.adapter.encode(prompt)["prompt_embeds"] for prompt in prompts]
    stop = threading.Event()

    def ask():
        while not stop.is_set():
            note_unread(tiny.adapter, "tiny", prompts)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for _ in range(5):
            for prompt, embeds in zip(prompts, wanted):
                assert torch.equal(tiny.adapter.encode(prompt)["prompt_embeds"], embeds)
    finally:
        stop.set()
        asking.join()
