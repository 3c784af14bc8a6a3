"""Stage `vae`: an AutoencoderTiny on random crops of clear and dull pictures; stage `decoder` goes on with
the decoder alone.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny

from calibri.tabletop.degrade import degrade, severities, to_tensor
from calibri.tabletop.train.common import BACKBONE_SEED, Place, cosine, run_steps, set_rates
from calibri.tabletop.train.muon import Muon

_CROP, _BATCH, _RATE, _MUON_RATE, _NOISE = 64, 16, 2e-3, 0.02, 0.05


def new_vae() -> AutoencoderTiny:
    """8 latent channels, 8x down, 32 channels at all levels."""
    return AutoencoderTiny(
        encoder_block_out_channels=(32,) * 4,
        decoder_block_out_channels=(32,) * 4,
        latent_channels=8,
        num_encoder_blocks=(1, 1, 2, 2),
        num_decoder_blocks=(2, 2, 2, 1),
    )


def _gradients(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return x[..., 1:] - x[..., :-1], x[..., 1:, :] - x[..., :-1, :]


def _loss(out: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """L1 + MSE + half of an L1 on image gradients: edges stay sharp."""
    (ox, oy), (tx, ty) = _gradients(out), _gradients(x)
    return F.l1_loss(out, x) + F.mse_loss(out, x) + 0.5 * (F.l1_loss(ox, tx) + F.l1_loss(oy, ty))


def psnr(vae: AutoencoderTiny, pictures: torch.Tensor) -> torch.Tensor:
    """Peak signal-to-noise ratio of each reconstruction, dB. pictures: (B, 3, H, W) in [0, 1]."""
    with torch.inference_mode():
        out = vae.decode(vae.encode(pictures * 2 - 1).latents).sample
    mse = ((out.clamp(-1, 1) + 1) / 2 - pictures).pow(2).mean((1, 2, 3))
    return -10 * torch.log10(mse)


def train_vae(place: Place, decoder_only: bool = False) -> None:
    """Leaves `work/vae/`, whose latents have mean 0 and spread 1 over the data set."""
    stage = "decoder" if decoder_only else "vae"
    pictures = place.pictures(BACKBONE_SEED)
    folder = place.work / "vae"
    rng = np.random.default_rng([BACKBONE_SEED, 7, int(decoder_only)])
    noise = torch.Generator(place.device).manual_seed(7)
    with torch.random.fork_rng():
        torch.random.manual_seed(11)
        vae = AutoencoderTiny.from_pretrained(folder) if decoder_only else new_vae()
    vae = vae.to(place.device, memory_format=torch.channels_last).train()
    vae.encoder.requires_grad_(not decoder_only)
    trained = [p for p in vae.parameters() if p.requires_grad]
    kernels = [p for p in trained if p.ndim == 4]
    # torch's Muon takes matrices only: it is given views of the kernels, (out, height·width·in)
    matrices = [torch.nn.Parameter(p.data.permute(0, 2, 3, 1).flatten(1)) for p in kernels]
    optimizers = [
        Muon(matrices, lr=_MUON_RATE, momentum=0.95, weight_decay=1e-3),
        torch.optim.AdamW([p for p in trained if p.ndim != 4], lr=_RATE, weight_decay=0.0),
    ]
    part = 0.5 if decoder_only else 1.0
    rates = [part * _MUON_RATE, part * _RATE]

    def take_step(progress: float) -> tuple[float, int]:
        set_rates(optimizers, rates, cosine(progress))
        rows = np.sort(rng.integers(len(pictures), size=_BATCH))
        # One crop place for a batch of pictures, over the middle where the solids are more often than not
        top, left = int(rng.integers(0, 65)), int(rng.integers(0, 65))
        x = to_tensor(pictures[rows, top : top + _CROP, left : left + _CROP]).to(place.device)
        x = degrade(x, torch.from_numpy(severities(_BATCH, rng)).to(place.device)) * 2 - 1
        x = x.to(memory_format=torch.channels_last)
        with place.autocast():
            z = vae.encoder(x)
            z = z + _NOISE * z.detach().std() * torch.randn(z.shape, generator=noise, device=z.device)
            out = vae.decoder(z)
        loss = _loss(out.float(), x)
        for p in trained:
            p.grad = None
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        for matrix, p in zip(matrices, kernels, strict=True):
            matrix.grad = p.grad.permute(0, 2, 3, 1).flatten(1)
        for optimizer in optimizers:
            optimizer.step()
        return loss.item(), _BATCH

    # A checkpoint is copied in place: the views stay views
    run_steps(place, stage, vae, take_step, save_every=500)
    vae.eval()
    sample = to_tensor(pictures[:512]).to(place.device)
    sample = degrade(sample, torch.from_numpy(severities(512, rng)).to(place.device))
    if not decoder_only:
        with torch.inference_mode():
            z = torch.cat([vae.encode(s * 2 - 1).latents for s in sample.split(64)])
        # FluxPipeline decodes latents / scaling_factor + shift_factor
        vae.register_to_config(scaling_factor=1 / z.std().item(), shift_factor=z.mean().item())
    clear, dull = psnr(vae, to_tensor(pictures[:128]).to(place.device)), psnr(vae, sample[:128])
    print(f"{stage}: {clear.mean():.1f} dB on clear pictures, {dull.mean():.1f} dB on mixed ones", flush=True)
    vae.to(memory_format=torch.contiguous_format).save_pretrained(folder)
