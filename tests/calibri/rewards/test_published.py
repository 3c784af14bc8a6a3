"""pickscore, hpsv2, mps, aesthetic and clipscore against their authors' code on tiny weights."""

from __future__ import annotations

import importlib
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPModel

import calibri
from calibri.errors import RewardError
from calibri.rewards import clip, open_clip
from calibri.rewards.catalog import CATALOG
from calibri.rewards.mps import CrossModel
from tests.calibri.rewards.odd_pictures import score_odd

FOLDERS = {
    "pickscore": "pickscore",
    "hpsv2": "hpsv2",
    "mps": "mps",
    "aesthetic": "aesthetic",
    "clipscore": "aesthetic",
}
WITH_PROMPT = [name for name in FOLDERS if name != "aesthetic"]
LONG = "a very long prompt of a red cube left of a blue sphere, "


@pytest.fixture(scope="module")
def load(golden):
    """name → the reward on its golden checkpoint, loaded once."""
    loaded = {}

    def get(name):
        if name not in loaded:
            loaded[name] = calibri.load_reward(name, source=golden(FOLDERS[name]).folder)
        return loaded[name]

    return get


@pytest.mark.parametrize("name", ["pickscore", "hpsv2", "mps", "aesthetic"])
def test_scores_are_those_of_the_authors_code(load, golden, name):
    case = golden(name)
    scores = load(name).score(case.images, case.prompts)
    assert scores.dtype == np.float64 and scores.shape == (3,)
    assert np.abs(scores - case.scores()).max() < 1e-5 * case.scores().std()


def test_clipscore_is_zero_below_a_right_angle_and_its_cosines_are_clips(load, golden):
    case = golden("aesthetic")
    reward = load("clipscore")
    assert reward.score(case.images, case.prompts).tolist() == case.cases["clipscore_hessel"]
    with torch.inference_mode():
        cosines = reward.cosines([image.convert("RGB") for image in case.images], case.prompts)
        scale = float(reward._model.logit_scale.exp())
    logits = case.scores("clip_logit")
    assert np.abs(cosines.double().numpy() * scale - logits).max() < 1e-5 * logits.std()


def test_clipscore_reads_the_prompt_as_a_caption(load, golden):
    reward, case = load("clipscore"), golden("aesthetic")
    pictures = [image.convert("RGB") for image in case.images] * 3
    words = [f"{word} {i}" for i, word in enumerate(["cube", "fox", "cone"] * 3)]
    with torch.inference_mode():
        cosines = reward.cosines(pictures, [f"A photo depicts {word}" for word in words]).double().numpy()
    expected = 2.5 * np.maximum(cosines, 0)
    assert expected.max() > 0
    assert np.allclose(reward.score(pictures, words), expected, atol=1e-6)


def test_mps_takes_the_threshold_of_the_readme_too(golden):
    case = golden("mps")
    reward = calibri.load_reward("mps", source=case.folder)
    assert reward.threshold == 0.3
    reward.threshold = 0.01
    expected = case.scores("score_at_001")
    assert np.abs(reward.score(case.images, case.prompts) - expected).max() < 1e-5 * expected.std()


@pytest.mark.parametrize("name, module", [("pickscore", clip), ("hpsv2", open_clip)])
def test_token_ids_are_those_of_the_authors_tokenizers(load, golden, name, module):
    case = golden(name)
    assert module.token_ids(load(name)._tokenizer, case.prompts).tolist() == case.cases["input_ids"]


@pytest.mark.parametrize("name", FOLDERS)
def test_a_score_does_not_depend_on_what_else_is_scored(load, golden, name):
    reward, case = load(name), golden(FOLDERS[name])
    images, prompts = case.images * 7, [*case.prompts[1:], *case.prompts] * 5
    together = reward.score(images, prompts[:21])
    alone = [reward.score([image], [prompt])[0] for image, prompt in zip(images, prompts)]
    assert np.allclose(together, alone, rtol=0, atol=2e-5 * max(1, np.abs(together).max()))


@pytest.mark.parametrize("name", FOLDERS)
def test_prompts_of_any_length_have_scores(load, golden, name):
    reward, case = load(name), golden(FOLDERS[name])
    long = (LONG * 60)[:3000]
    assert len(long) == 3000
    prompts = [
        "",
        "   ",
        long,
        long[:1500],
        "日本語 🦊 ünïcode",
        "<|endoftext|> <|startoftext|>",
        "a\x00b\ud800",
    ]
    scores = reward.score(case.images[:1] * len(prompts), prompts)
    assert np.isfinite(scores).all()
    assert np.isclose(scores[2], scores[3])  # both are cut at 77 tokens


@pytest.mark.parametrize("name", FOLDERS)
def test_pictures_of_any_size_and_mode_have_scores(load, golden, name):
    reward, case = load(name), golden(FOLDERS[name])
    rgb = case.images[0].convert("RGB")
    floats = Image.fromarray(np.asarray(rgb.convert("L")).astype(np.float32) / 255)
    more = [rgb.convert("1"), rgb.convert("CMYK"), floats]
    scores = score_odd(reward, case, [(1, 1), (1, 3000), (3000, 2)], (4001, 3001), more)
    assert np.isclose(scores[1], scores[-1], atol=1e-6)


@pytest.mark.parametrize("name", FOLDERS)
def test_no_pictures_have_no_scores_and_one_prompt_for_each_is_asked_for(load, golden, name):
    assert load(name).score([], []).shape == (0,)
    with pytest.raises(RewardError, match=r"1 images, 2 prompts|1 image, 2 prompts"):
        load(name).score(golden(FOLDERS[name]).images[:1], ["a", "b"])
    with pytest.raises(RewardError, match="expected a PIL picture, got ndarray"):
        load(name).score([np.zeros((8, 8, 3), np.uint8)], ["a"])


@pytest.mark.parametrize("name", WITH_PROMPT)
def test_the_prompt_counts(load, golden, name):
    reward, case = load(name), golden(FOLDERS[name])
    prompts = [f"{word} {i}" for i, word in enumerate(["cube", "fox", "cone", "ball"] * 4)]
    assert len(set(reward.score(case.images[:1] * 16, prompts).tolist())) > 1


@pytest.mark.parametrize("name", FOLDERS)
def test_a_closed_reward_says_so(golden, name):
    reward = calibri.load_reward(name, source=golden(FOLDERS[name]).folder)
    reward.close()
    reward.close()
    assert not [value for value in vars(reward).values() if isinstance(value, torch.nn.Module)]
    with pytest.raises(RewardError, match=f"{name} was closed: load it again"):
        reward.score([Image.new("RGB", (8, 8))], ["a"])


@pytest.mark.parametrize("name", FOLDERS)
def test_what_a_reward_says_of_itself(load, golden, name):
    info, spec = load(name).info, CATALOG[name]
    assert (info.name, info.role, info.kind, info.licence) == (name, spec.role, spec.kind, spec.licence)
    assert info.source == str(golden(FOLDERS[name]).folder)
    assert info.revision.startswith(f"{info.weights}-p") and "-pillow" in info.revision
    assert info.size > 100_000 and info.parameters > 100_000
    assert type(info).model_validate_json(info.model_dump_json()) == info


@pytest.mark.parametrize("name", FOLDERS)
def test_the_revision_changes_with_the_weights_and_the_dtype(load, golden, tmp_path, name):
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "changed"
    shutil.copytree(golden(FOLDERS[name]).folder, folder)
    same = calibri.load_reward(name, source=folder)
    assert same.info.revision == load(name).info.revision  # wherever the files lie
    assert calibri.load_reward(name, source=folder, dtype="bfloat16").info.revision != same.info.revision
    path = max(folder.rglob("*.safetensors"), key=lambda path: (path.name == "model.safetensors", path.name))
    tensors = load_file(path)
    key = sorted(tensors)[-1]
    tensors[key] = tensors[key] * 1.01
    path.chmod(0o644)
    save_file(tensors, path)
    changed = calibri.load_reward(name, source=folder)
    assert changed.info.weights != same.info.weights
    assert changed.info.revision != same.info.revision


@pytest.mark.parametrize("name", FOLDERS)
def test_bfloat16_stays_near(load, golden, name):
    case = golden(FOLDERS[name])
    reward = calibri.load_reward(name, source=case.folder, dtype="bfloat16")
    exact = load(name).score(case.images, case.prompts)
    moved = np.abs(reward.score(case.images, case.prompts) - exact).max()
    assert moved < 0.05 * max(exact.std(), 0.1)


@pytest.mark.parametrize("name", FOLDERS)
def test_a_missing_file_is_named(golden, tmp_path, name):
    folder = tmp_path / "torn"
    shutil.copytree(golden(FOLDERS[name]).folder, folder)
    gone = folder / ("sac+logos+ava1-l14-linearMSE.safetensors" if name == "aesthetic" else "")
    if name != "aesthetic":
        gone = next(path for path in sorted(folder.rglob("*.safetensors")) if not path.name.startswith("sac"))
    gone.unlink()
    with pytest.raises(RewardError, match=f"{name}: .*torn has no .*: expected the layout"):
        calibri.load_reward(name, source=folder)


def test_weights_of_another_model_are_refused(golden, tmp_path):
    wrong = tmp_path / "wrong"
    shutil.copytree(golden("pickscore").folder, wrong)
    shutil.copy(golden("hpsv2").folder / "HPS_v2.1.safetensors", wrong / "model.safetensors")
    with pytest.raises(RewardError, match="pickscore: expected the published layout of weights, got no "):
        calibri.load_reward("pickscore", source=wrong)
    head = "sac+logos+ava1-l14-linearMSE.safetensors"
    shutil.copy(golden("aesthetic").folder / head, wrong / "HPS_v2.1.safetensors")
    with pytest.raises(RewardError, match="hpsv2: expected a CLIP model in open_clip's layout"):
        calibri.load_reward("hpsv2", source=wrong)


def test_a_config_of_another_size_is_refused(golden, tmp_path):
    folder = tmp_path / "wide"
    shutil.copytree(golden("pickscore").folder, folder)
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["hidden_size"] = 64
    (folder / "config.json").chmod(0o644)
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(RewardError, match="pickscore: the weights have other shapes than expected"):
        calibri.load_reward("pickscore", source=folder)


def test_the_published_pickles_hold_tensors_and_are_read_as_such(golden, tmp_path, load):
    """HPS_v2.1_compressed.pt is {'state_dict': …}, the aesthetic head a plain state_dict, in .pth."""
    from safetensors.torch import load_file

    for name, published in (
        ("hpsv2", "HPS_v2.1_compressed.pt"),
        ("aesthetic", "sac+logos+ava1-l14-linearMSE.pth"),
    ):
        folder = tmp_path / name
        shutil.copytree(golden(name).folder, folder)
        safe = next(folder.glob("*.safetensors"))
        tensors = load_file(safe)
        safe.unlink()
        content = {"epoch": 1, "state_dict": tensors} if name == "hpsv2" else tensors
        torch.save(content, folder / published)
        case = golden(name)
        scores = calibri.load_reward(name, source=folder).score(case.images, case.prompts)
        assert np.array_equal(scores, load(name).score(case.images, case.prompts))


def test_the_mirror_of_mps_has_a_prefix(golden, tmp_path, load):
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "mirror"
    shutil.copytree(golden("mps").folder, folder)
    tensors = load_file(folder / "mps.safetensors")
    (folder / "mps.safetensors").unlink()
    save_file({f"mps.{key}": tensor for key, tensor in tensors.items()}, folder / "model.safetensors")
    case = golden("mps")
    scores = calibri.load_reward("mps", source=folder).score(case.images, case.prompts)
    assert np.array_equal(scores, load("mps").score(case.images, case.prompts))


# ---- the real configurations

TOWERS_H = {
    "vision_config": {
        "hidden_size": 1280,
        "intermediate_size": 5120,
        "num_hidden_layers": 32,
        "num_attention_heads": 16,
        "patch_size": 14,
        "hidden_act": "gelu",
    },
    "text_config": {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "hidden_act": "gelu",
    },
    "projection_dim": 1024,
}
TOWERS_L = {
    "vision_config": {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "patch_size": 14,
    },
    "text_config": {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
    },
    "projection_dim": 768,
}


def count(module):
    return sum(p.numel() for p in module.parameters())


def test_parameters_of_the_real_configurations():
    with torch.device("meta"):
        large, huge = CLIPModel(CLIPConfig(**TOWERS_L)), CLIPModel(CLIPConfig(**TOWERS_H))
        cross = CrossModel(dim=1024, layers=4, heads=16, width=64)
    assert count(huge) == CATALOG["pickscore"].parameters == CATALOG["hpsv2"].parameters
    assert round(count(huge) / 1e6) == 986
    assert count(large) == CATALOG["clipscore"].parameters == CATALOG["aesthetic"].parameters
    assert count(huge) + count(cross) == CATALOG["mps"].parameters
    assert round((count(huge) + count(cross)) / 1e9, 1) == 1.1


def test_the_shapes_of_the_real_clip_h_give_its_configuration():
    with torch.device("meta"):
        state = CLIPModel(CLIPConfig(**TOWERS_H)).state_dict()
    found = open_clip.config_of(state, "hpsv2")
    for tower, values in TOWERS_H.items():
        if isinstance(values, dict):
            assert {key: getattr(getattr(found, tower), key) for key in values} == values
    assert found.vision_config.image_size == 224 and found.text_config.vocab_size == 49408


def test_open_clips_keys_are_all_known(golden):
    from safetensors.torch import load_file

    tensors = load_file(golden("hpsv2").folder / "HPS_v2.1.safetensors")
    renamed = open_clip.rename({**tensors, "attn_mask": torch.zeros(1)})
    assert sum(t.numel() for t in renamed.values()) == sum(t.numel() for t in tensors.values())
    assert all(key.startswith(("vision_model", "text_model", "visual_", "text_", "logit")) for key in renamed)


def test_prompts_are_cleaned_as_open_clip_cleans_them():
    assert open_clip.clean("  “A  Cat’s”\n &amp;amp; ﬁne ＡＢＣ\u200f ") == '"a cat\'s" & fine abc'


@pytest.mark.parametrize("name", FOLDERS)
def test_the_catalogue_names_a_class_that_is_there(name):
    module, _, attribute = CATALOG[name].place.partition(":")
    assert getattr(importlib.import_module(module), attribute).name == name
