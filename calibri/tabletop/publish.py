"""`python -m calibri.tabletop.publish`: the trained pipeline into the assets, weights in half precision,
loadable with plain diffusers.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderTiny, FluxPipeline

from calibri.tabletop.backbone import with_capitals


def publish(work: Path, assets: Path) -> int:
    """Copies `work/tabletop` with the newest VAE to `assets/tabletop`, float16. Returns the bytes of all
    assets.
    """
    pipe = FluxPipeline.from_pretrained(work / "tabletop")
    pipe.vae = AutoencoderTiny.from_pretrained(work / "vae")
    pipe.tokenizer_2 = with_capitals(pipe.text_encoder_2)
    folder = assets / "tabletop"
    shutil.rmtree(folder, ignore_errors=True)
    pipe.transformer.to(torch.float16)
    pipe.vae.to(torch.float16)
    # The text encoders stay in float32: transformers loads what it finds, where diffusers loads float32.
    pipe.save_pretrained(folder)
    for path in folder.rglob("*.json"):
        content = json.loads(path.read_text())
        # _name_or_path: the folder they were read from has no business in the assets. block_out_channels:
        # AutoencoderTiny writes it and then warns that it does not expect it; its own __init__ sets it anew.
        if path.parent.name == "vae":
            content.pop("block_out_channels", None)
        content.pop("_name_or_path", None)
        path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    return sum(p.stat().st_size for p in assets.rglob("*") if p.is_file())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("work/tabletop"))
    parser.add_argument("--assets", type=Path, default=Path("assets"))
    a = parser.parse_args()
    print(f"all assets together: {publish(a.work, a.assets) / 1e6:.1f} MB")
