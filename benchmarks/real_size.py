"""Checkpoints of the published size with random weights, in the published layout: for speed and memory."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from calibri.rewards import hpsv3, imagereward, qalign, vqascore
from calibri.rewards.fill import build_empty
from calibri.rewards.mps import CrossModel

HUGE = ("pickscore", "mps")  # CLIP-H; the others have CLIP-L
CLIPS = (*HUGE, "aesthetic", "clipscore")
_BERT = {"vocab_size": 30524, "hidden_size": 768, "intermediate_size": 3072}
_BERT |= {"num_hidden_layers": 12, "num_attention_heads": 12}
_FLAN = {"vocab_size": 32128, "d_kv": 64, "feed_forward_proj": "gated-gelu", "num_layers": 24}
_FLAN_SIZES: dict[str, dict[str, int]] = {
    "vqascore-xl": {"d_model": 2048, "d_ff": 5120, "num_heads": 32},
    "vqascore-xxl": {"d_model": 4096, "d_ff": 10240, "num_heads": 64},
}
#: Parameters of the published files that no score needs: HPSv3's output layer, ImageReward's projections.
UNUSED = {"hpsv3": hpsv3.VOCABULARY * 3584, "imagereward": 256 * (1024 + 768 + 2)}


# ---- models without weights, and the names of their tensors in the published files


def _imagereward() -> torch.nn.Module:
    vision = imagereward.vision_config()
    return imagereward.ImageRewardNet(vision, imagereward.text_config(_BERT, vision))


def _vqascore(name: str) -> Callable[[], torch.nn.Module]:
    text = vqascore.text_config(_FLAN | _FLAN_SIZES[name])
    return lambda: vqascore.ClipFlanT5(vqascore.vision_config(None), text)


def empty_model(name: str) -> torch.nn.Module:
    """The model of the published configuration, shapes alone."""
    if name == "qalign":
        return qalign.build_net({})[0]
    makers: dict[str, Callable[[], torch.nn.Module]] = {
        "hpsv3": lambda: hpsv3.HPSv3Net(hpsv3.read_config(None)),
        "imagereward": _imagereward,
        **{each: _vqascore(each) for each in _FLAN_SIZES},
    }
    return build_empty(makers[name])


def publish(reward: str, name: str) -> str:
    """The name in the published file of a tensor of the model: `rename` undone."""
    if reward == "hpsv3":
        return "model." + name.removeprefix("language_model.") if name.startswith("language_model.") else name
    if reward.startswith("vqascore"):
        for old, new in vqascore._PREFIXES:
            if name.startswith(new):
                return old + name.removeprefix(new)
    if reward == "imagereward":
        return _publish_imagereward(name)
    return name


def _publish_imagereward(name: str) -> str:
    if name.startswith("text."):
        return "blip.text_encoder." + name.removeprefix("text.")
    if name.startswith("head."):
        _, place, leaf = name.split(".")
        return f"mlp.layers.{imagereward._HEAD_PLACES[int(place)]}.{leaf}"
    for old, new in imagereward._VISION:
        if name.startswith("vision." + new):
            name = old + name.removeprefix("vision." + new)
            for before, after in imagereward._BLOCK:
                name = name.replace(after, before)
    return name


RENAMES: dict[str, Callable[[str], str | None]] = {
    "hpsv3": hpsv3.rename,
    "imagereward": imagereward.rename,
    "qalign": qalign.rename,
    **dict.fromkeys(_FLAN_SIZES, vqascore.rename),
}
REAL = (*CLIPS, *RENAMES)
FILES = {"hpsv3": "HPSv3.safetensors", "imagereward": "ImageReward.safetensors"}


def list_tensors(name: str) -> Iterator[tuple[str, torch.Size]]:
    """(published name, shape) of all tensors that a score needs; one that is used twice once."""
    from calibri.rewards.fill import _places

    for own, place in _places(empty_model(name)).items():
        published = publish(name, own)
        if RENAMES[name](published) == own:  # copies of an embedding have no place in the file
            yield published, place.shape


# ---- files


def write_real(name: str, golden: Path, folder: Path) -> Path:
    """A checkpoint of the published size in bfloat16. `golden`: the small one, whose tokenizer it takes."""
    shutil.copytree(golden, folder)
    if name in CLIPS:
        _write_clip(name, folder)
        return folder
    _write_configuration(name, folder)
    generator = torch.Generator().manual_seed(0)
    tensors = {
        published: torch.empty(shape, dtype=torch.bfloat16).normal_(0, 0.02, generator=generator)
        for published, shape in list_tensors(name)
    }
    save_file(tensors, folder / FILES.get(name, "model.safetensors"))
    return folder


def _write_configuration(name: str, folder: Path) -> None:
    """The published sizes, beside a small vocabulary."""
    if name == "hpsv3":
        (folder / "config.json").unlink()  # the published one is taken
        path = folder / "tokenizer.json"
        values = json.loads(path.read_text(encoding="utf-8"))
        words = values["model"]["vocab"]
        taken = {*words.values(), *(token["id"] for token in values["added_tokens"])}
        words.update({f"filler {i}": i for i in range(hpsv3.VOCABULARY) if i not in taken})
        path.write_text(json.dumps(values), encoding="utf-8")
    elif name == "imagereward":
        path = folder / "med_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | _BERT), encoding="utf-8")
    elif name == "qalign":
        (folder / "config.json").write_text("{}", encoding="utf-8")
    else:
        shutil.rmtree(folder / "clip")
        (folder / "config.json").write_text(json.dumps(_FLAN | _FLAN_SIZES[name]), encoding="utf-8")


def _write_clip(name: str, folder: Path) -> None:
    model = (
        random_clip((1280, 1024), (32, 24), (16, 16), 1024)
        if name in HUGE
        else random_clip((1024, 768), (24, 12), (16, 12), 768)
    )
    if name == "mps":
        cross = CrossModel(1024, 4, 16, 64).to(torch.bfloat16).state_dict()
        tensors = {f"model.{key}": value for key, value in model.state_dict().items()}
        for key, value in cross.items():
            layer, number, rest = key.removeprefix("layers.").split(".", 2)
            tensors[f"cross_model.layers.{layer}.{number}.fn.{rest}"] = value
        save_file(tensors, folder / "mps.safetensors")
    else:
        model.save_pretrained(folder if name == "pickscore" else folder / "clip")
    if name == "aesthetic":
        path = folder / "sac+logos+ava1-l14-linearMSE.safetensors"
        head = load_file(path)
        head["layers.0.weight"] = torch.randn(len(head["layers.0.weight"]), 768).half() / 28
        save_file(head, path)


def random_clip(
    width: tuple[int, int], layers: tuple[int, int], heads: tuple[int, int], projection: int
) -> Any:
    """A CLIPModel of this size, bfloat16, (vision, text) each."""
    from transformers import CLIPConfig, CLIPModel

    def tower(i: int) -> dict[str, Any]:
        sizes = {"hidden_size": width[i], "intermediate_size": 4 * width[i]}
        return {
            **sizes,
            "num_hidden_layers": layers[i],
            "num_attention_heads": heads[i],
            "hidden_act": "gelu",
        }

    config = CLIPConfig(
        vision_config={**tower(0), "patch_size": 14},
        text_config={**tower(1), "eos_token_id": 2},
        projection_dim=projection,
    )
    with torch.random.fork_rng():
        return CLIPModel(config).to(torch.bfloat16)
