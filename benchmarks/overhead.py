"""What calibrations cost: forwards with hooks, folded, of ensembles and of mixed arms, against plain ones.

    python -m benchmarks.overhead --memory 20 --rounds 7
    python -m benchmarks.overhead --device cuda

Two models: tabletop's transformer, and a FLUX.1-dev-shaped one of random weights with as many blocks as
`--memory` gigabytes hold (all 19 + 38 on a GPU by default). Each pair is measured in one process, in the
order A B B A, `--rounds` times after one that does not count; a round's ratio is that of its two sums, so
that a machine which slows down or is busy hits both alike. Reported are the median ratio, its quartiles, and
the ratio of the fastest runs, of wall time and of the process's CPU time. A folded model is the same one with
scales folded in, and their inverses folded in for the next pair: no second copy of the weights is needed.

With `--device cuda` also: pictures a minute at `--steps` steps (the transformer alone: no text encoder, no
VAE), compiled and not, and the share of the bf16 matmul peak, which is measured on the same device.

JSON on stdout, progress on stderr.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import FluxTransformer2DModel
from torch.utils.flop_counter import FlopCounterMode

from calibri.backbones.loading import load_backbone
from calibri.backbones.sites import sites_of
from calibri.calibration.fold import fold
from calibri.sampling.ensemble import Rows, member_rows
from calibri.sampling.hooks import ScaleHooks

Run = Callable[[], Any]
Inside = Callable[[], contextlib.AbstractContextManager[Any]]

AIMS = {"hooked": 1.02, "folded": 1.005, "ensemble of two": 2.1, "eight calibrations": 1.05}
DEV: dict[str, Any] = {  # FLUX.1-dev
    "in_channels": 64,
    "attention_head_dim": 128,
    "num_attention_heads": 24,
    "joint_attention_dim": 4096,
    "pooled_projection_dim": 768,
    "guidance_embeds": True,
    "axes_dims_rope": (16, 56, 56),
}
DEV_BLOCKS = (19, 38)
REPEATED = ("hidden_states", "timestep", "encoder_hidden_states", "pooled_projections", "guidance")
ARMS = 8


@dataclass(frozen=True)
class Subject:
    """A transformer, and the size of what it is given: `side`: tokens of a picture's edge; `text`: tokens."""

    transformer: FluxTransformer2DModel
    side: int
    text: int

    def call(self, rows: int) -> dict[str, Any]:
        """Keyword arguments for so many pictures."""
        config = self.transformer.config
        like = next(self.transformer.parameters())
        draw = torch.Generator().manual_seed(0)

        def noise(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, generator=draw).to(like.device, like.dtype)

        places = torch.stack(torch.meshgrid(*(torch.arange(self.side),) * 2, indexing="ij"), -1).flatten(0, 1)
        found = {
            "hidden_states": noise(rows, self.side**2, config.in_channels),
            "encoder_hidden_states": noise(rows, self.text, config.joint_attention_dim),
            "pooled_projections": noise(rows, config.pooled_projection_dim),
            "timestep": torch.full((rows,), 0.5, device=like.device, dtype=like.dtype),
            "img_ids": torch.nn.functional.pad(places, (1, 0)).to(like.device, like.dtype),
            "txt_ids": torch.zeros(self.text, 3, device=like.device, dtype=like.dtype),
            "return_dict": False,
        }
        guided = torch.full((rows,), 3.5, device=like.device)
        return {**found, "guidance": guided if config.guidance_embeds else None}


@dataclass(frozen=True)
class Arm:
    """One side of a pair: `run` is timed, inside `inside()`. `warms`: whether it runs once before that."""

    run: Run
    inside: Inside = contextlib.nullcontext
    warms: bool = False


def flux_shaped(memory: float | None, dtype: torch.dtype, device: str) -> FluxTransformer2DModel:
    """FLUX.1-dev's transformer with random weights, and as many of its blocks as fit into so many gigabytes
    (of 10⁹ bytes, the weights alone), one double for two singles; None is all."""
    blocks = DEV_BLOCKS
    if memory is not None:
        bytes_of = [_count(d, 2 * d) * dtype.itemsize / 1e9 for d in range(1, DEV_BLOCKS[0] + 1)]
        doubles = sum(size <= memory for size in bytes_of)
        if not doubles:
            raise SystemExit(f"--memory: expected {bytes_of[0]:.2f} or more, got {memory:g}")
        blocks = (doubles, 2 * doubles)
    with torch.device("meta"):
        transformer = _shaped(*blocks).to(dtype)
    transformer.to_empty(device=device)
    draw = torch.Generator(device).manual_seed(0)
    # One block of noise for all matrices: drawing billions of numbers takes longer than the measurement.
    noise = torch.randn(2**24, generator=draw, device=device).to(dtype)
    with torch.no_grad():
        for parameter in transformer.parameters():
            if parameter.ndim == 1:
                parameter.fill_(1e-2)
                continue
            flat = parameter.view(-1)
            for start in range(0, flat.numel(), noise.numel()):
                part = flat[start : start + noise.numel()]
                part.copy_(noise[: part.numel()] / parameter.shape[1] ** 0.5)
    return transformer.eval()


def _shaped(doubles: int, singles: int) -> FluxTransformer2DModel:
    return FluxTransformer2DModel(num_layers=doubles, num_single_layers=singles, **DEV)


def _count(doubles: int, singles: int) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in _shaped(doubles, singles).parameters())


def measure(first: Arm, second: Arm, rounds: int, sync: Run) -> dict[str, Any]:
    """`first` against `second`, in turns. What `Arm.inside` does is not timed."""
    walls: dict[str, list[float]] = {"A": [], "B": []}
    ratios: dict[str, list[float]] = {"wall": [], "cpu": []}
    for number in range(rounds + 1):
        spent = {"A": [0.0, 0.0], "B": [0.0, 0.0]}
        for name in "ABBA" if number % 2 else "BAAB":
            arm = first if name == "A" else second
            with arm.inside():
                if arm.warms:
                    arm.run()
                sync()
                wall, cpu = time.perf_counter(), time.process_time()
                arm.run()
                sync()
                took = time.perf_counter() - wall, time.process_time() - cpu
            spent[name] = [spent[name][0] + took[0], spent[name][1] + took[1]]
            if number:
                walls[name].append(took[0])
        if number:  # the first one warms
            for place, kind in enumerate(ratios):
                ratios[kind].append(spent["A"][place] / max(spent["B"][place], 1e-9))
    return {
        "ratio": statistics.median(ratios["wall"]),
        "quartiles": np.quantile(ratios["wall"], (0.25, 0.75)).tolist(),
        "ratio_of_cpu_time": statistics.median(ratios["cpu"]),
        "ratio_of_the_fastest": min(walls["A"]) / min(walls["B"]),
        "milliseconds": {
            "it": 1000 * statistics.median(walls["A"]),
            "the_other": 1000 * statistics.median(walls["B"]),
        },
        "rounds": rounds,
    }


def scales_of(subject: Subject, rows: int) -> np.ndarray:
    """(rows, n_sites), one calibration each."""
    draw = np.random.default_rng(0)
    return draw.uniform(0.8, 1.25, (rows, len(sites_of(subject.transformer))))


@contextlib.contextmanager
def hooked(subject: Subject, scales: np.ndarray) -> Iterator[None]:
    with ScaleHooks(subject.transformer, sites_of(subject.transformer)) as hooks:
        hooks.set(scales)
        yield


def forward(subject: Subject, call: dict[str, Any]) -> torch.Tensor:
    with torch.inference_mode():
        return subject.transformer(**call)[0]


def compare_forwards(subject: Subject, rounds: int, sync: Run) -> dict[str, Any]:
    """The four pairs."""
    one, eight = subject.call(1), subject.call(ARMS)
    single, several = scales_of(subject, 1)[0], scales_of(subject, ARMS)
    rows = Rows.of([[1.5, -0.5]])
    folding = Folding(subject.transformer, single)

    def run_one() -> None:
        forward(subject, one)

    def run_eight() -> None:
        forward(subject, eight)

    @contextlib.contextmanager
    def of_two() -> Iterator[None]:
        with hooked(subject, several[:2]), member_rows(subject.transformer, rows, REPEATED, {}):
            yield

    plain = Arm(run_one)
    pairs = {
        "hooked": (Arm(run_one, lambda: hooked(subject, single)), plain),
        "ensemble of two": (Arm(run_one, of_two), plain),
        "eight calibrations": (
            Arm(run_eight, lambda: hooked(subject, several)),
            Arm(run_eight, lambda: hooked(subject, single)),
        ),
        # Folding has put other things into the caches: both sides run once before they are timed.
        "folded": (
            Arm(run_one, lambda: folding.on(True), True),
            Arm(run_one, lambda: folding.on(False), True),
        ),
    }
    found: dict[str, Any] = {}
    for name, (first, second) in pairs.items():
        measured = measure(first, second, rounds, sync)
        found[name] = measured | {"aim": AIMS[name], "met": measured["ratio"] <= AIMS[name]}
        say(f"  {name}: {measured['ratio']:.4f}")
    folding.leave()
    found["ensemble of two"]["weights"] = weights_ratio(subject, several[:2])
    return found


class Folding:
    """Scales that are in the weights or not, whichever a run wants."""

    def __init__(self, transformer: FluxTransformer2DModel, scales: np.ndarray) -> None:
        self._transformer, self._scales, self._is_on = transformer, scales, False

    @contextlib.contextmanager
    def on(self, wanted: bool) -> Iterator[None]:
        if wanted != self._is_on:
            fold(self._transformer, self._scales if wanted else 1 / self._scales)
            self._is_on = wanted
        yield

    def leave(self) -> None:
        with self.on(False):
            return


def weights_ratio(subject: Subject, scales: np.ndarray) -> dict[str, float]:
    """Bytes of all parameters, each storage counted once, and of the scales, inside over outside."""

    def count() -> int:
        tensors = {p.untyped_storage().data_ptr(): p.untyped_storage().nbytes() for p in parameters()}
        return sum(tensors.values())

    def parameters() -> Iterator[torch.Tensor]:
        for module in subject.transformer.modules():
            yield from module.parameters(recurse=False)
            for _, scale in getattr(module, "calibri_scales", ()):
                yield scale

    before = count()
    with hooked(subject, scales):
        inside = count()
    return {"gigabytes": before / 1e9, "ratio": inside / before}


# on a GPU


def speed(subject: Subject, steps: int, rounds: int, sync: Run) -> dict[str, Any]:
    """Pictures a minute, calibrated, as the transformer alone would allow, and the share of the peak."""
    call, scales = subject.call(1), scales_of(subject, 1)[0]
    with FlopCounterMode(display=False) as counter:
        forward(subject, call)
    operations = counter.get_total_flops()
    peak = matmul_peak(next(subject.transformer.parameters()), sync)
    report: dict[str, Any] = {"operations_of_a_forward": operations, "matmul_peak": peak, "steps": steps}
    for name in ("not compiled", "compiled"):
        if name == "compiled":
            subject.transformer.compile_repeated_blocks(fullgraph=True)
        times = []
        with hooked(subject, scales):
            for number in range(rounds + 3):
                sync()
                began = time.perf_counter()
                for _ in range(steps if number > 2 else 1):
                    forward(subject, call)
                sync()
                if number > 2:  # the first ones compile and warm
                    times.append(time.perf_counter() - began)
        seconds = statistics.median(times)
        report[name] = {
            "pictures_a_minute": 60 / seconds,
            "share_of_the_peak": operations * steps / seconds / peak,
            "quartiles": [60 / each for each in np.quantile(times, (0.75, 0.25))],
        }
        say(f"  {name}: {60 / seconds:.1f} pictures a minute")
    return report


def matmul_peak(like: torch.Tensor, sync: Run, size: int = 8192) -> float:
    """Operations a second of a square product, the best of ten."""
    size = size if like.is_cuda else 1024
    a, b = (torch.ones(size, size, device=like.device, dtype=like.dtype) for _ in range(2))
    best = float("inf")
    for _ in range(10):
        sync()
        began = time.perf_counter()
        a @ b
        sync()
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--memory", type=float, help="gigabytes of weights; default 4, on a GPU all blocks")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), help="default float32, bfloat16 on a GPU")
    parser.add_argument("--pixels", type=int, help="edge of a picture; default 128, on a GPU 512")
    parser.add_argument("--text", type=int, help="tokens of text; default 32, on a GPU 512")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tabletop-rounds", type=int, default=60)
    parser.add_argument("--steps", type=int, default=15, help="of a picture, on a GPU")
    parser.add_argument("--only", choices=("tabletop", "large"), help="one of the two models")
    return parser


def main() -> None:
    args = options().parse_args()
    is_gpu = args.device == "cuda"
    if is_gpu and not torch.cuda.is_available():
        raise SystemExit("--device cuda: no CUDA device is here")
    sync: Run = torch.cuda.synchronize if is_gpu else lambda: None
    report: dict[str, Any] = {
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if is_gpu else "cpu",
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0],
    }
    if args.only != "large":
        say("tabletop")
        backbone = load_backbone("tabletop", device=args.device)
        report["tabletop"] = compare_forwards(
            Subject(backbone.transformer, 8, 24), args.tabletop_rounds, sync
        )
    if args.only != "tabletop":
        dtype = getattr(torch, args.dtype or ("bfloat16" if is_gpu else "float32"))
        memory = args.memory if args.memory is not None else (None if is_gpu else 4.0)
        transformer = flux_shaped(memory, dtype, args.device)
        pixels, text = args.pixels or (512 if is_gpu else 128), args.text or (512 if is_gpu else 32)
        subject = Subject(transformer, pixels // 16, text)
        blocks = [transformer.config.num_layers, transformer.config.num_single_layers]
        say(f"FLUX.1-dev-shaped, {blocks} blocks")
        size = {"blocks": blocks, "dtype": str(dtype), "pixels": pixels, "text": text}
        report["large"] = size | compare_forwards(subject, args.rounds, sync)
        if is_gpu:
            report["speed"] = speed(subject, args.steps, args.rounds, sync)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
