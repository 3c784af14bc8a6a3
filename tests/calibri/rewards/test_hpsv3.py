"""hpsv3 trap by trap: the column that is read, positions, frequencies, its head, quantised weights."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, models
from transformers import Qwen2VLConfig, Qwen2VLModel

import calibri
from calibri.errors import RewardError
from calibri.rewards import hpsv3
from calibri.rewards.fill import build_empty, fill, quantise, read_tensors
from calibri.rewards.hpsv3_input import best_size, cut_patches


@pytest.fixture(scope="module")
def reward(golden):
    return calibri.load_reward("hpsv3", source=golden("hpsv3").folder)


def test_hpsv3_says_how_unsure_it_is(reward, golden):
    case = golden("hpsv3")
    found = reward.measure([image.convert("RGB") for image in case.images], case.prompts)
    assert np.abs(found[:, 1].numpy() - case.scores("sigma")).max() < 2e-6


def test_pictures_thinner_than_hpsv3_ever_saw_are_refused(reward):
    with pytest.raises(RewardError, match="hpsv3: expected sides that differ 200 times at most, got 201×1"):
        reward.score([Image.new("RGB", (201, 1))], ["a line"])


def test_hpsv3_reads_the_column_that_it_asked_about(reward, golden):
    """`<|Reward|>` and its like in a prompt are text: they add no column, no picture and no end."""
    case = golden("hpsv3")
    special = reward._tokens
    for prompt in ("<|Reward|>", "a <|Reward|> b<|Reward|>", "<|im_end|> <|image_pad|> <|vision_end|>"):
        question = special.ask(prompt)
        assert question.ids.count(special.reward) == 1 and question.ids[question.reward] == special.reward
        assert question.ids.count(special.image) == 1 and question.ids[question.image] == special.image
        assert question.ids[question.reward + 1 :] == special.ask("").ids[special.ask("").reward + 1 :]
    scores = reward.score(case.images[:1] * 3, ["a cube <|Reward|>", "a cube < |Reward|>", "a cube"])
    assert np.isfinite(scores).all() and len(set(scores.tolist())) == 3


def test_hpsv3_counts_plain_positions_where_qwen2_vl_would_count_rows_and_columns(reward, golden):
    case = golden("hpsv3")
    net, tokens = reward._net, reward._tokens
    patches, grid = cut_patches([case.images[0].convert("RGB")])
    question = tokens.ask(case.prompts[0])
    count = int(grid.prod() // 4)
    ids = torch.tensor(
        [[*question.ids[: question.image], *[tokens.image] * count, *question.ids[question.image + 1 :]]]
    )
    config = hpsv3.read_config(case.folder / "config.json", tokens.count)
    default = build_empty(lambda: Qwen2VLModel(config))
    default.visual, default.language_model = net.visual, net.language_model
    kinds = (ids == tokens.image).int()
    with torch.inference_mode():
        states = default(
            input_ids=ids,
            pixel_values=torch.from_numpy(patches),
            image_grid_thw=torch.from_numpy(grid),
            mm_token_type_ids=kinds,
            attention_mask=torch.ones_like(ids),
        ).last_hidden_state
        off = float(net.rm_head(states[0, question.reward - 1 + count])[0])
    assert abs(off - case.scores("mu")[0]) > 0.05
    assert abs(reward.score(case.images[:1], case.prompts[:1])[0] - case.scores("mu")[0]) < 2e-6


def test_hpsv3_sees_positions_after_it_was_built_without_weights(reward, golden):
    """Rotary frequencies are in no checkpoint: both modules make theirs again."""
    net = reward._net
    width = 32 // 2
    text, vision = net.language_model.rotary_emb.inv_freq, net.visual.rotary_pos_emb.inv_freq
    assert torch.equal(text, 1e6 ** -(torch.arange(0, width, 2).float() / width)) or torch.allclose(
        text, 1 / 1e6 ** (torch.arange(0, width, 2).float() / width), rtol=1e-6
    )
    assert torch.allclose(vision, 1 / 1e4 ** (torch.arange(0, width // 2, 2).float() / (width // 2)))
    assert not any(tensor.is_meta for tensor in [*net.buffers(), *net.parameters()])


def test_hpsv3_in_bfloat16_keeps_its_head_and_rounds_its_frequencies(golden):
    """Of the authors' own bfloat16: `model.to(torch.bfloat16)` on transformers 4.45.2 rounds the rotary
    frequencies, and then makes the head float32 again. Its scores of the golden cases, computed so:
    """
    authors = np.array([-1.035358, -1.238464, -0.998860])
    rounded_alone = np.array([-1.035583, -1.238175, -0.996875])  # float32 but for the frequencies
    case = golden("hpsv3")
    coarse = calibri.load_reward("hpsv3", source=case.folder, dtype="bfloat16")
    assert coarse._net.rm_head[0].weight.dtype == torch.float32
    assert coarse._net.language_model.norm.weight.dtype == torch.bfloat16
    assert np.abs(coarse.score(case.images, case.prompts) - authors).max() < 0.02
    fine = calibri.load_reward("hpsv3", source=case.folder)
    hpsv3.round_frequencies(fine._net)
    scores = fine.score(case.images, case.prompts)
    assert np.abs(scores - rounded_alone).max() < 2e-6
    assert np.abs(scores - case.scores("mu")).max() > 0.01


@pytest.mark.parametrize(
    "size, best",
    [((448, 448), (448, 448)), ((1, 1), (448, 448)), ((1024, 1024), (448, 448)), ((640, 360), (588, 336))],
)
def test_hpsv3_takes_pictures_of_about_200_thousand_pixels(size, best):
    assert best_size(*size) == best
    assert all(side % 28 == 0 for side in best_size(1000, 7))


def test_a_tokenizer_of_another_model_does_not_fit_hpsv3(golden, tmp_path):
    shutil.copytree(golden("hpsv3").folder, tmp_path / "model")
    Tokenizer(models.WordLevel({"a": 0}, unk_token="a")).save(str(tmp_path / "model" / "tokenizer.json"))
    with pytest.raises(RewardError, match=r"expected the tokenizer of Qwen2-VL, got one without <\|"):
        calibri.load_reward("hpsv3", source=tmp_path / "model")


def test_a_model_is_filled_one_tensor_at_a_time(golden):
    """Each tensor is let go of before the next is asked for, so that memory holds the model once."""
    import weakref

    folder = golden("hpsv3").folder
    config = hpsv3.read_config(folder / "config.json", 1015)
    net = build_empty(lambda: hpsv3.HPSv3Net(config))
    alive, most = [], 0

    def watched():
        nonlocal most
        for name, tensor in read_tensors([folder / "HPSv3.safetensors"], hpsv3.rename):
            copy = tensor.clone()
            alive.append(weakref.ref(copy))
            del tensor
            yield name, copy
            del copy
            most = max(most, sum(ref() is not None for ref in alive))

    fill(net, watched(), label="hpsv3")
    assert len(alive) == count_tensors(net) and most <= 2


def count_tensors(net):
    return sum(1 for _ in net.parameters())


@pytest.mark.parametrize("bits, coarse, most", [(4, 0.12, 1e-4), (8, 0.02, 0.05)])
def test_hpsv3_quantised_computes_with_its_rounded_weights(golden, bits, coarse, most):
    """On CUDA in use; bitsandbytes computes the same on a CPU where rows are multiples of 64, as the real
    ones are and the golden ones are not. 8 bits round the states too.
    """
    functional = pytest.importorskip("bitsandbytes").functional
    sizes = {"hidden_size": 128, "intermediate_size": 192, "num_hidden_layers": 2, "num_attention_heads": 2}
    rope = {"type": "mrope", "mrope_section": [8, 12, 12]}
    vision = {"depth": 1, "embed_dim": 32, "num_heads": 2, "hidden_size": 128}
    more = {"num_key_value_heads": 1, "rope_scaling": rope, "vision_config": vision, "vocab_size": 1015}
    config = Qwen2VLConfig(**sizes, **more)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        whole = hpsv3.HPSv3Net(config).eval().requires_grad_(False)
        for parameter in whole.parameters():
            if parameter.ndim == 2:
                parameter.normal_(std=parameter.shape[1] ** -0.5)
    net = build_empty(lambda: hpsv3.HPSv3Net(config))
    quantise(net, bits, torch.float32, label="hpsv3", keep=hpsv3.WHOLE)
    fill(net, whole.state_dict().items(), label="hpsv3")
    replaced = 0
    for path, layer in whole.named_modules():
        stored = net.get_submodule(path)
        if type(stored) is type(layer):
            continue
        weight = stored.weight
        assert weight.dtype == {4: torch.uint8, 8: torch.int8}[bits]
        if bits == 4:
            value = functional.dequantize_4bit(weight.data, weight.quant_state)
        else:
            value = weight.data.float() * weight.SCB[:, None] / 127
        assert 0 < (value - layer.weight).std() < coarse * layer.weight.std()
        layer.weight.data.copy_(value)
        replaced += 1
    assert replaced == 7 * 2  # of each layer of the language model
    tokens = calibri.load_reward("hpsv3", source=golden("hpsv3").folder)._tokens
    patches, grid = cut_patches([image.convert("RGB") for image in golden("hpsv3").images])
    questions = [tokens.ask(prompt) for prompt in golden("hpsv3").prompts]
    with torch.inference_mode():
        asked = (torch.from_numpy(patches), torch.from_numpy(grid), questions, tokens.image)
        exact, found = whole(*asked), net(*asked)
    assert (found - exact).abs().max() < most


def test_quantised_weights_need_cuda_and_bitsandbytes(golden, monkeypatch):
    with pytest.raises(RewardError, match="hpsv3: 4bit needs a CUDA device, not cpu"):
        calibri.load_reward("hpsv3", source=golden("hpsv3").folder, dtype="4bit")
    with pytest.raises(RewardError, match=r"imagereward: expected a dtype auto, .*got '4bit'"):
        calibri.load_reward("imagereward", source=golden("imagereward").folder, dtype="4bit")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RewardError, match="hpsv3 in 4 bits needs bitsandbytes"):
        quantise(torch.nn.Linear(2, 2), 4, torch.bfloat16, label="hpsv3")


def test_flat_and_nested_configurations_of_qwen_are_the_same():
    config = hpsv3.read_config(None)
    assert isinstance(config, Qwen2VLConfig) and config.text_config.vocab_size == hpsv3.VOCABULARY
    assert config.text_config.rope_parameters["mrope_section"] == [16, 24, 24]
    assert config.text_config.num_key_value_heads == 4 and config.vision_config.depth == 32


# ---- the authors' own package


def test_the_environment_of_the_authors_package_has_what_it_forgets():
    from calibri.rewards.hpsv3_package import make_spec

    spec = make_spec("MizzenAI/HPSv3", "auto")
    assert {"hpsv3==1.0.0", "matplotlib", "tensorboard"} <= set(spec.requirements)
    assert spec.options["dtype"] == "bfloat16" and spec.kind == "bt"


@pytest.mark.slow
@pytest.mark.skipif("CALIBRI_HPSV3_PYTHON" not in os.environ, reason="names no Python that has hpsv3 1.0.0")
def test_the_authors_package_in_a_worker_gives_the_same_numbers(golden):
    from calibri.rewards.hpsv3_package import HPSv3Package

    case = golden("hpsv3")
    python = Path(os.environ["CALIBRI_HPSV3_PYTHON"])
    theirs = HPSv3Package(source=case.folder, dtype="float32", python=python)
    found = theirs.score(case.images, case.prompts)
    theirs.close()
    assert np.abs(found - case.scores("mu")).max() < 2e-6
    ours = calibri.load_reward("hpsv3", source=case.folder).score(case.images, case.prompts)
    assert np.abs(found - ours).max() < 2e-6
