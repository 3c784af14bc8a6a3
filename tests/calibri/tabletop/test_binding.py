"""Which colour goes with which shape: read from captions, and told by the published token encoder."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import FluxPipeline

from calibri.tabletop import backbone as b
from calibri.tabletop.nets import KINDS
from calibri.tabletop.prompts import facts_in, prompt_set
from calibri.tabletop.train.binding import Parser, new_head, taught_words, unread
from calibri.tabletop.train.common import Place

ASSETS = Path(__file__).resolve().parents[3] / "assets"


def parsed(prompts: list[str], tokenizer) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and pairs, each (n, 24)."""
    ids = tokenizer(prompts, **b.PADDED).input_ids
    return ids, Parser(tokenizer)(ids)


def test_the_pair_stands_at_the_token_of_its_shape() -> None:
    tokenizer = b.t5_tokenizer()
    ids, pairs = parsed(["a crimson box and a blue ball", "a cube"], tokenizer)
    told = {tokenizer.decode([ids[0, at]]): KINDS[pairs[0, at]] for at in (pairs[0] >= 0).nonzero()[:, 0]}
    assert told == {"box": ("red", "cube"), "ball": ("blue", "sphere")}
    assert (pairs[1] == -100).all()  # no colour, no pair


def test_tokens_and_words_of_a_prompt_name_the_same_pairs() -> None:
    prompts = prompt_set("search", 200)
    for prompt, row in zip(prompts, parsed(prompts, b.t5_tokenizer())[1], strict=True):
        assert tuple(KINDS[i] for i in row[row >= 0]) == facts_in(prompt).kinds


def test_what_is_not_told_costs_and_nothing_asked_costs_nothing() -> None:
    head = new_head()
    tokens = torch.randn(2, b.TEXT_TOKENS, b.T5_WIDTH, requires_grad=True)
    pairs = torch.full((2, b.TEXT_TOKENS), -100)
    assert unread(head, tokens, pairs).item() == 0
    pairs[0, 3] = 5
    unread(head, tokens, pairs).backward()
    assert tokens.grad[0, 3].abs().sum() > 0
    tokens.grad[0, 3] = 0
    assert tokens.grad.abs().sum() == 0  # no other token is asked
    with torch.no_grad():
        head.weight.zero_()
        head.bias.copy_(torch.where(torch.arange(len(KINDS)) == 5, 20.0, -20.0))
    assert unread(head, tokens, pairs).item() < 1e-6


def test_a_short_lesson_is_kept_and_not_given_twice(tmp_path: Path) -> None:
    place = Place(tmp_path, ASSETS, "cpu", minutes=0.01)
    first = taught_words(place)
    again = taught_words(place)
    assert first.keys() == again.keys() and {name.split(".")[0] for name in first} == {"tokens", "binding"}
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_each_token_of_the_published_encoder_tells_the_colour_of_its_shape() -> None:
    pipe = FluxPipeline.from_pretrained(ASSETS / "tabletop")

    def at_shapes(name: str, n: int) -> tuple[torch.Tensor, torch.Tensor]:
        ids, pairs = parsed(prompt_set(name, n), pipe.tokenizer_2)
        with torch.inference_mode():
            tokens = pipe.text_encoder_2(ids)[0]
        return F.pad(tokens[pairs >= 0], (0, 1), value=1.0), pairs[pairs >= 0]

    seen, asked = at_shapes("train", 1500)
    probe = torch.linalg.lstsq(seen, F.one_hot(asked, len(KINDS)).float(), driver="gelsd").solution
    seen, asked = at_shapes("held-out", 200)
    right = ((seen @ probe).argmax(1) == asked).float().mean().item()
    assert right > 0.9  # a third of them before the encoder was taught
