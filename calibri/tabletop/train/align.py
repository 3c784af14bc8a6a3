"""Stage `align`: a small CLIPModel, contrastive on scenes (clear and dull alike) and captions.

Beside the captions of the other pictures, each picture has two that are wrong about it in one fact (after
NegCLIP, arXiv 2210.01936): which colour belongs to which shape is what a bag of words misses. Heads that say
which solids are there, and one by which each patch predicts the `keep` net's features at its place, make it
learn faster; they are thrown away.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from calibri.tabletop.backbone import clip_sizes, clip_tokenizer, clip_words, in_order_of
from calibri.tabletop.captions import caption
from calibri.tabletop.data import scene_at
from calibri.tabletop.degrade import degrade, severities, to_tensor
from calibri.tabletop.nets import KINDS, FactsNet
from calibri.tabletop.reward_nets import load_net
from calibri.tabletop.train.common import BACKBONE_SEED, Place, cosine, descend, run_steps, set_rates
from calibri.tabletop.train.facts import WIDTHS, targets
from calibri.tabletop.train.muon import Muon
from calibri.tabletop.train.negatives import altered

_BATCH, _RATE, _MUON_RATE, _WIDTH, _WRONG = 128, 1.5e-3, 0.01, 128, 2


def _new_model(tokenizer: CLIPTokenizer) -> CLIPModel:
    config = CLIPConfig(
        projection_dim=_WIDTH,
        text_config=clip_words(tokenizer, _WIDTH, layers=2, heads=4),
        vision_config={
            **clip_sizes(_WIDTH, 3 * _WIDTH, layers=4, heads=4),
            "image_size": 128,
            "patch_size": 16,
        },
    )
    return CLIPModel(config)


def _new_net(tokenizer: CLIPTokenizer) -> nn.ModuleDict:
    """The model and the heads that it is taught with, random."""
    with torch.random.fork_rng():
        torch.random.manual_seed(91)
        return nn.ModuleDict(
            {
                "clip": _new_model(tokenizer),
                "image_facts": nn.Linear(_WIDTH, len(KINDS) + 4),
                "text_facts": nn.Linear(_WIDTH, len(KINDS) + 4),
                "places": nn.Linear(_WIDTH, 4 * WIDTHS["keep"]),
            }
        )


def _make_optimizers(net: nn.ModuleDict) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for the rest."""
    matrices = [p for n, p in net["clip"].named_parameters() if p.ndim == 2 and ".layers." in n]
    others = [p for p in net.parameters() if not any(p is m for m in matrices)]
    return [
        Muon(matrices, lr=_MUON_RATE, momentum=0.95, weight_decay=0.01),
        torch.optim.AdamW(others, lr=_RATE, betas=(0.9, 0.98), weight_decay=0.02),
    ]


def train_align(place: Place) -> None:
    """Leaves `assets/rewards/align/` in the format of CLIPModel.from_pretrained."""
    pictures = place.pictures(BACKBONE_SEED)
    scenes = [scene_at(i, BACKBONE_SEED) for i in range(len(pictures))]
    combinations = {key: i for i, key in enumerate({scene.key: None for scene in scenes})}
    keys = torch.tensor([combinations[scene.key] for scene in scenes])
    presence, numbers = targets(len(pictures), BACKBONE_SEED)
    tokenizer = clip_tokenizer()
    rng = np.random.default_rng([BACKBONE_SEED, 81])
    net = _new_net(tokenizer).to(place.device).train()
    guide, _ = load_net("keep", place.device)
    assert isinstance(guide, FactsNet)
    clip: CLIPModel = net["clip"]
    optimizers = _make_optimizers(net)
    folder = place.assets / "rewards" / "align"

    def begin() -> None:
        if place.published:
            published = CLIPModel.from_pretrained(folder, dtype=torch.float32).state_dict()
            theirs = CLIPTokenizer.from_pretrained(folder).get_vocab()
            clip.load_state_dict(in_order_of(tokenizer.get_vocab(), published, theirs))

    def take_step(progress: float) -> tuple[float, int]:
        set_rates(optimizers, (_MUON_RATE, _RATE), cosine(progress))
        rows = np.sort(rng.choice(len(pictures), _BATCH, replace=False))
        clear = to_tensor(pictures[rows]).to(place.device)
        x = degrade(clear, torch.from_numpy(severities(_BATCH, rng)).to(place.device))
        prompts = [caption(scenes[i], rng) for i in rows]
        prompts += [caption(altered(scenes[i], rng), rng) for i in rows for _ in range(_WRONG)]
        tokens = tokenizer(prompts, padding="max_length", truncation=True, return_tensors="pt").input_ids.to(
            place.device
        )
        with place.autocast():
            with torch.no_grad():
                aims = guide.features(clear).flatten(2).transpose(1, 2)  # a place is a patch: 8 × 8 of both
            patches = clip.vision_model(pixel_values=x * 2 - 1)
            vision = patches.pooler_output
            places = net["places"](patches.last_hidden_state[:, 1:]).float()
            text = clip.text_model(input_ids=tokens).pooler_output
            seen = net["image_facts"](vision).float(), net["text_facts"](text[:_BATCH]).float()
            image = F.normalize(clip.visual_projection(vision).float(), dim=1)
            words = F.normalize(clip.text_projection(text).float(), dim=1)
        words, wrong = words[:_BATCH], words[_BATCH:].view(_BATCH, _WRONG, -1)
        scale = clip.logit_scale.exp().clamp(max=60)
        logits = scale * image @ words.T
        against = scale * torch.einsum("bd,bnd->bn", image, wrong)
        y, n = presence[rows].to(place.device), numbers[rows].to(place.device)
        facts = sum(
            8 * F.binary_cross_entropy_with_logits(s[:, : len(KINDS)], y)
            + F.cross_entropy(s[:, len(KINDS) :], n)
            for s in seen
        )
        # Two pictures of one combination are no negatives of each other
        same = (keys[rows][:, None] == keys[rows][None]).to(place.device)
        same.fill_diagonal_(False)
        logits = logits.masked_fill(same, -1e4)
        aim = torch.arange(len(rows), device=place.device)
        of_image = F.cross_entropy(torch.cat([logits, against], 1), aim)
        loss = (of_image + F.cross_entropy(logits.T, aim)) / 2 + 0.3 * facts
        aims = aims.float() - aims.float().mean((0, 1))
        loss = loss + 1 - F.cosine_similarity(places, aims, dim=-1).mean()
        return descend(loss, net.parameters(), optimizers), len(rows)

    clock = run_steps(place, "align", net, take_step, save_every=200, begin=begin)
    clip.logit_scale.data.clamp_(max=float(np.log(60)))
    clip.config.calibri_samples = clock.samples
    clip.eval().half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
