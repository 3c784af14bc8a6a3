"""The embedded backbone is a plain diffusers pipeline, and paints what it is asked for."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline

from calibri.backbones.loading import load_backbone
from calibri.rewards import load_reward
from calibri.sampling.renderer import Renderer
from calibri.sampling.request import RenderRequest
from calibri.tabletop.backbone import TEXT_TOKENS, clip_tokenizer, image_ids, in_order_of, pack
from calibri.tabletop.prompts import known_words, prompt_set

ASSETS = Path(__file__).parents[3] / "assets"


@pytest.fixture(scope="module")
def pipe():
    return FluxPipeline.from_pretrained(ASSETS / "tabletop", local_files_only=True)


def test_the_tokenizer_is_the_same_at_every_call_and_knows_the_words():
    first, second = clip_tokenizer(), clip_tokenizer()
    assert first.get_vocab() == second.get_vocab()
    assert all(len(first.tokenize(word)) == 1 for word in known_words())


def test_rows_move_with_their_words():
    state = {"a.token_embedding.weight": torch.tensor([[0.0], [1.0], [2.0]]), "b": torch.ones(2)}
    moved = in_order_of({"red": 2, "cube": 0, "ball": 1}, state, {"red": 0, "ball": 1, "cube": 2})
    assert moved["a.token_embedding.weight"].flatten().tolist() == [2.0, 1.0, 0.0]
    assert moved["b"] is state["b"]


def test_every_part_is_a_real_class(pipe):
    index = json.loads((ASSETS / "tabletop" / "model_index.json").read_text())
    assert {k: v[1] for k, v in index.items() if not k.startswith("_") and v[0]} == {
        "scheduler": "FlowMatchEulerDiscreteScheduler",
        "text_encoder": "CLIPTextModel",
        "text_encoder_2": "T5EncoderModel",
        "tokenizer": "CLIPTokenizer",
        "tokenizer_2": "T5Tokenizer",
        "transformer": "FluxTransformer2DModel",
        "vae": "AutoencoderTiny",
    }
    assert len(pipe.transformer.transformer_blocks) >= 4
    assert len(pipe.transformer.single_transformer_blocks) >= 8


def test_all_assets_together_are_at_most_30_mb():
    assert sum(p.stat().st_size for p in ASSETS.rglob("*") if p.is_file()) <= 30e6


def test_no_absolute_path_is_in_the_assets():
    for path in [*ASSETS.rglob("*.json"), *ASSETS.rglob("*.md")]:
        text = path.read_text()
        assert not any(root in text for root in ("/root/", "/home/", "/work/", "/tmp/")), path.name


def test_capitals_and_full_stops_change_nothing(pipe):
    plain, loud = (
        pipe.encode_prompt(text, text, max_sequence_length=TEXT_TOKENS)[0]
        for text in ("a red cube, a blue ball", "A Red CUBE, a Blue ball")
    )
    assert torch.equal(plain, loud)


def test_packing_is_that_of_the_pipeline():
    x = torch.arange(2 * 8 * 16 * 16, dtype=torch.float32).reshape(2, 8, 16, 16)
    assert torch.equal(pack(x), FluxPipeline._pack_latents(x, 2, 8, 16, 16))
    ids = FluxPipeline._prepare_latent_image_ids(1, 8, 8, torch.device("cpu"), torch.float32)
    assert torch.equal(image_ids(), ids)


def test_the_renderer_paints_what_plain_diffusers_paints(pipe):
    prompt = "a red ball next to a blue cone"
    plain = pipe(
        prompt,
        height=128,
        width=128,
        num_inference_steps=4,
        max_sequence_length=TEXT_TOKENS,
        generator=[torch.Generator("cpu").manual_seed(3)],
        output_type="np",
    ).images[0]
    ours = Renderer(load_backbone("tabletop")).render([RenderRequest(prompt, 3, 4)])[0]
    assert np.abs(np.asarray(ours.image) / 255 - plain).max() < 3 / 255


def test_it_paints_what_held_out_prompts_ask_for():
    prompts = prompt_set("held-out", 32)
    requests = [RenderRequest(p, 700 + i, 8, guidance=2.0) for i, p in enumerate(prompts)]
    images = [r.image for r in Renderer(load_backbone("tabletop"), batch_size=32).render(requests)]
    facts = load_reward("tabletop-facts")
    assert facts.score(images, prompts).mean() > 0.6
    assert facts.score(images, prompts[1:] + prompts[:1]).mean() < 0.4
