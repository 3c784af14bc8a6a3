"""hpsv3, vqascore, imagereward and qalign against their authors' code on tiny weights, and their traps."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import calibri
from calibri.errors import RewardError
from calibri.rewards import hpsv3, imagereward, qalign, vqascore
from calibri.rewards.catalog import CATALOG
from calibri.rewards.fill import build_empty, count_parameters
from calibri.rewards.hpsv3_input import cut_patches
from calibri.rewards.pictures import normalise, pad_to_square, resize_and_crop
from tests.calibri.rewards.odd_pictures import score_odd

NAMES = ("hpsv3", "vqascore-xl", "imagereward", "qalign")
TOKENS = ("hpsv3", "vqascore-xl", "imagereward")  # those that read the prompt
KEY = {"hpsv3": "mu", "qalign": "quality"}
# cases.json of qalign names its first three words alone. No other pair of the vocabulary's 1,000 tokens for
# the last two gives the six scores: the next best is off by 0.03. They are in its tokenizer.json.
WORD_IDS = [676, 764, 268, 651, 297]
LONG = ("a very long prompt of a red cube left of a blue sphere, " * 60)[:3000]


def folder_of(name):
    return name.split("-")[0]


@pytest.fixture(scope="module")
def folders(golden):
    """name → folder in the published layout."""
    return {name: golden(folder_of(name)).folder for name in NAMES}


@pytest.fixture(scope="module")
def load(folders):
    """name → the reward on its golden checkpoint, loaded once."""
    loaded = {}

    def get(name):
        if name not in loaded:
            loaded[name] = calibri.load_reward(name, source=folders[name])
        return loaded[name]

    return get


# ---- the authors' scores


@pytest.mark.parametrize("name", TOKENS)
def test_scores_are_those_of_the_authors_code(load, golden, name):
    case = golden(folder_of(name))
    expected = case.scores(KEY.get(name, "score"))
    scores = load(name).score(case.images, case.prompts)
    assert scores.dtype == np.float64 and scores.shape == (3,)
    limit = 2e-6 if name == "hpsv3" else 1e-5 * expected.std()
    assert np.abs(scores - expected).max() < limit


@pytest.mark.parametrize("name, task", [("qalign", "quality"), ("qalign-aesthetics", "aesthetics")])
def test_ratings_are_those_of_the_authors_code(golden, name, task):
    case = golden("qalign")
    reward = calibri.load_reward(name, source=case.folder)
    ids = [*reward._before.tolist(), -200, *reward._after.tolist()]
    assert ids == case.cases["input_ids"][task]
    assert reward._words == WORD_IDS and WORD_IDS[:3] == case.cases["preferential_ids"]
    expected = case.scores(task)
    assert np.abs(reward.score(case.images, case.prompts) - expected).max() < 1e-5 * expected.std()


def test_token_ids_are_those_of_the_authors_tokenizers(load, golden):
    case, reward = golden("hpsv3"), load("hpsv3")
    _, grid = cut_patches([image.convert("RGB") for image in case.images])
    assert grid.tolist() == case.cases["image_grid_thw"]
    question = reward._tokens.ask(case.prompts[0])
    pictures = [reward._tokens.image] * int(grid[0].prod() // 4)
    ids = [*question.ids[: question.image], *pictures, *question.ids[question.image + 1 :]]
    assert ids == case.cases["first_input_ids"]

    case, reward = golden("vqascore"), load("vqascore-xl")
    for prompt, expected in zip(case.prompts, case.cases["input_ids"], strict=True):
        ids = [*reward._before, -200, *reward._ids(vqascore.AFTER.format(prompt))]
        assert ids == expected[: len(ids)] and set(expected[len(ids) :]) <= {0}
    assert reward._answer == case.cases["labels"]

    case, reward = golden("imagereward"), load("imagereward")
    assert [text.ids for text in reward._tokenizer.encode_batch(case.prompts)] == case.cases["input_ids"]


def test_qalign_words_its_question_as_the_published_code():
    """The end has its words in another order than one would write them."""
    assert qalign.BEFORE.format("quality") == "USER: How would you rate the quality of this image?\n"
    assert qalign.AFTER.format("aesthetics") == "\nASSISTANT: The image of the aesthetics is"


def test_qalign_reads_llamas_sentencepiece_model(tmp_path):
    """As LLaMA's: a blank before a text, its new line kept, no end; the first piece of a word counts."""
    import io

    import sentencepiece

    model = io.BytesIO()
    texts = [qalign.BEFORE.format("quality"), qalign.AFTER.format("aesthetics"), *qalign.WORDS] * 9
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=model,
        model_type="bpe",
        vocab_size=360,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
    )
    (tmp_path / "tokenizer.model").write_bytes(model.getvalue())
    encode, begin = qalign._encoder(tmp_path / "tokenizer.model")
    pieces = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    assert begin == 1 and "".join(pieces.id_to_piece(encode("excellent"))) == "▁excellent"
    after = pieces.id_to_piece(encode(qalign.AFTER.format("quality")))
    assert "".join(after).replace("<0x0A>", "\n") == "▁\nASSISTANT:▁The▁image▁of▁the▁quality▁is"
    (tmp_path / "bad.model").write_bytes(b"no")
    with pytest.raises(RewardError, match=r"bad\.model is no sentencepiece model"):
        qalign._encoder(tmp_path / "bad.model")


# ---- the traps


@pytest.mark.parametrize("name", NAMES)
def test_a_score_does_not_depend_on_what_else_is_scored(load, golden, name):
    reward, case = load(name), golden(folder_of(name))
    images, prompts = case.images * 2, [*case.prompts[1:], *case.prompts, case.prompts[0]]
    together = reward.score(images, prompts)
    alone = [reward.score([image], [prompt])[0] for image, prompt in zip(images, prompts, strict=True)]
    assert np.allclose(together, alone, rtol=0, atol=2e-6 * max(1, np.abs(together).max()))


@pytest.mark.parametrize("name", NAMES)
def test_prompts_of_any_kind_have_scores(load, golden, name):
    reward, case = load(name), golden(folder_of(name))
    prompts = ["", "   ", LONG, "日本語 🦊 ünïcode", "<image> </s> [SEP] {} {0} %s", "a\x00b\ud800"]
    scores = reward.score(case.images[:1] * len(prompts), prompts)
    assert np.isfinite(scores).all()
    if name in TOKENS:
        assert len(set(scores.tolist())) > 3
    else:
        assert np.allclose(scores, scores[0], atol=1e-6)  # the prompt is not looked at


@pytest.mark.parametrize("name", NAMES)
def test_pictures_of_any_size_and_mode_have_scores(load, golden, name):
    score_odd(load(name), golden(folder_of(name)), [(1, 1), (1, 180), (600, 3)], (2001, 1501))


@pytest.mark.parametrize("name", ["vqascore-xl", "imagereward", "qalign"])
def test_a_line_of_pixels_fills_no_memory(load, name):
    assert np.isfinite(load(name).score([Image.new("RGB", (30000, 1), "red")], ["a red line"])).all()


def test_vqascore_keeps_an_output_layer_of_its_own(load, golden):
    reward, case = load("vqascore-xl"), golden("vqascore")
    text = reward._net.text
    assert text.lm_head.weight.data_ptr() != text.shared.weight.data_ptr()
    stored = load_file(case.folder / "model.safetensors")
    assert torch.equal(text.lm_head.weight, stored["lm_head.weight"].float())
    assert text.encoder.embed_tokens is text.shared and text.decoder.embed_tokens is text.shared
    own = text.lm_head.weight
    text.lm_head.weight = text.shared.weight  # what a tied model would compute
    try:
        tied = reward.score(case.images, case.prompts)
    finally:
        text.lm_head.weight = own
    assert np.abs(tied - case.scores()).max() > 0.1 * case.scores().std()
    assert not reward._net.text.config.scale_decoder_outputs


def test_imagereward_looks_at_the_picture(load, golden):
    """Without is_decoder in the configuration transformers builds no cross-attention."""
    reward, case = load("imagereward"), golden("imagereward")
    assert reward._net.text.encoder.layer[0].crossattention.self.key.in_features == 32
    scores = reward.score(case.images, case.prompts[:1] * 3)
    assert len(set(scores.round(3).tolist())) == 3
    values = json.loads((case.folder / "med_config.json").read_text())
    assert imagereward.text_config(values, imagereward.vision_config(32, 2)).is_decoder


def test_imagereward_crops_half_a_pixel_to_the_even_side():
    picture = Image.effect_noise((331, 224), 90).convert("RGB")
    left = picture.crop((54, 0, 278, 224))  # 107 go: 53.5 becomes 54
    assert resize_and_crop(picture, 224, lambda rest: round(rest / 2)).tobytes() == left.tobytes()


def test_padding_puts_a_picture_in_the_middle_of_the_mean_colour():
    picture = Image.new("RGB", (5, 2), "red")
    square = pad_to_square(picture)
    assert square.size == (5, 5) and square.getpixel((0, 0)) == (122, 116, 104)
    assert square.getpixel((0, 1)) == square.getpixel((4, 2)) == (255, 0, 0)
    assert pad_to_square(Image.new("RGB", (3, 3))).size == (3, 3)
    assert normalise([square]).shape == (1, 3, 5, 5)


# ---- weights


def test_parameters_of_the_real_configurations_are_those_published():
    """On the meta device. Published figures count HPSv3's unused output layer, and VQAScore's output layer
    as one with its embedding.
    """
    real = build_empty(lambda: hpsv3.HPSv3Net(hpsv3.read_config(None)))
    whole = count_parameters(real) + hpsv3.VOCABULARY * 3584
    assert whole == CATALOG["hpsv3"].parameters and f"{whole / 1e9:.2f}" == "8.29"
    common = {"vocab_size": 32128, "d_kv": 64, "feed_forward_proj": "gated-gelu", "num_layers": 24}
    for name, tied, sizes in (
        ("vqascore-xl", "3.1", {"d_model": 2048, "d_ff": 5120, "num_heads": 32}),
        ("vqascore-xxl", "11.3", {"d_model": 4096, "d_ff": 10240, "num_heads": 64}),
    ):
        text = vqascore.text_config(common | sizes)
        count = count_parameters(
            build_empty(lambda text=text: vqascore.ClipFlanT5(vqascore.vision_config(None), text))
        )
        assert count == CATALOG[name].parameters
        assert f"{(count - text.vocab_size * text.d_model) / 1e9:.1f}" == tied
    vision = imagereward.vision_config()
    bert = {"vocab_size": 30524, "hidden_size": 768, "intermediate_size": 3072}
    bert |= {"num_hidden_layers": 12, "num_attention_heads": 12}
    net = build_empty(lambda: imagereward.ImageRewardNet(vision, imagereward.text_config(bert, vision)))
    projections = 256 * (1024 + 768 + 2)  # of the pretraining, in the file
    assert count_parameters(net) // 10**6 == 446
    assert count_parameters(net) + projections == CATALOG["imagereward"].parameters
    owl, side = qalign.build_net({})
    assert side == 448 and count_parameters(owl) == CATALOG["qalign"].parameters
    assert f"{2 * count_parameters(owl) / 1e9:.1f}" == "16.4"  # bytes of the published file, in 16 bits


@pytest.mark.parametrize("name", NAMES)
def test_a_reward_says_what_it_is_and_closes(folders, name):
    reward = calibri.load_reward(name, source=folders[name])
    info = reward.info
    assert info.source == str(folders[name]) and len(info.weights) == 16 and info.size > 100_000
    assert info.kind == ("probability" if name == "vqascore-xl" else "bt")
    assert info.revision.endswith("-float32") and info.parameters > 0
    reward.close()
    assert reward._modules() == []
    with pytest.raises(RewardError, match=f"{name} was closed"):
        reward.score([Image.new("RGB", (8, 8))], ["a"])


@pytest.mark.parametrize("name", NAMES)
def test_other_weights_than_the_published_are_refused(folders, tmp_path, name):
    spoilt = tmp_path / "model"
    shutil.copytree(folders[name], spoilt)
    weights = next(spoilt.glob("*.safetensors"))
    tensors = load_file(weights)
    last = [key for key in tensors if "layer" in key and key.endswith("weight")][-1]
    for changed, words in (
        ({k: v for k, v in tensors.items() if k != last}, "the weights lack 1 tensors"),
        (tensors | {"more.weight": torch.zeros(2)}, "the weights of another model, got a tensor more.weight"),
        (tensors | {last: torch.zeros(3, 5)}, r"of shape \(.*\), got \(3, 5\)"),
    ):
        save_file(changed, weights)
        with pytest.raises(RewardError, match=f"{name}: .*{words}"):
            calibri.load_reward(name, source=spoilt)
    weights.write_bytes(b"not weights")
    with pytest.raises(RewardError, match="cannot be read as safetensors"):
        calibri.load_reward(name, source=spoilt)
    weights.unlink()
    with pytest.raises(RewardError, match=f"{name}: .*model has no .*expected the layout"):
        calibri.load_reward(name, source=spoilt)


@pytest.mark.parametrize(
    "name, file, content, words",
    [
        ("hpsv3", "tokenizer.json", b"{}", "tokenizer.json is no tokenizer"),
        ("hpsv3", "config.json", b"[]", "expected a JSON object, got list"),
        ("hpsv3", "config.json", b'{"hidden_size": "wide"}', "is no configuration of Qwen2-VL"),
        ("vqascore-xl", "tokenizer.json", b"no", "tokenizer.json is no tokenizer"),
        (
            "vqascore-xl",
            "config.json",
            b'{"mm_vision_select_layer": -1}',
            "expected mm_vision_select_layer -2",
        ),
        ("imagereward", "med_config.json", b"{}", "med_config.json lacks vocab_size"),
        ("imagereward", "vocab.txt", b"\xff\xfe", "vocab.txt is no vocabulary of BERT"),
        ("qalign", "tokenizer.json", b"{}", "tokenizer.json is no tokenizer"),
    ],
)
def test_other_files_than_the_published_are_refused(folders, tmp_path, name, file, content, words):
    shutil.copytree(folders[name], tmp_path / "model")
    (tmp_path / "model" / file).write_bytes(content)
    with pytest.raises(RewardError, match=words):
        calibri.load_reward(name, source=tmp_path / "model")


def test_shards_of_either_kind_give_the_same_scores(folders, golden, tmp_path):
    """CLIP-FlanT5 is published as pickles of tensors, in shards, with copies of its embedding."""
    case = golden("vqascore")
    shutil.copytree(folders["vqascore-xl"], tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    tensors = load_file(weights)
    weights.unlink()
    copies = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "embed_tokens.weight")
    tensors |= {name: tensors["shared.weight"] for name in copies}
    tensors["vision_tower.vision_tower.vision_model.embeddings.position_ids"] = torch.arange(577)[None]
    old = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
    tensors[old] = torch.zeros(32, 2)
    names = list(tensors)
    for number, part in enumerate((names[::2], names[1::2]), 1):
        path = tmp_path / "model" / f"pytorch_model-0000{number}-of-00002.bin"
        torch.save({name: tensors[name] for name in part}, path)
    reward = calibri.load_reward("vqascore-xxl", source=tmp_path / "model")
    assert np.allclose(
        reward.score(case.images, case.prompts), case.scores(), rtol=0, atol=1e-5 * np.std(case.scores())
    )


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_moves_scores_little(folders, load, golden, name):
    case = golden(folder_of(name))
    reward = calibri.load_reward(name, source=folders[name], dtype="bfloat16")
    scores, exact = (each.score(case.images, case.prompts) for each in (reward, load(name)))
    assert np.abs(scores - exact).max() < 0.3 * max(exact.std(), 0.1)
    assert reward.info.revision.endswith("-bfloat16") and reward.info.revision != load(name).info.revision
