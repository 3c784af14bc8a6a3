"""Pictures a second with two Ray workers over one, each with one thread.

    python benchmarks/workers.py --pictures 256

JSON on stdout, progress on stderr. Needs the extra `ray`. Loading is not timed; the first batches warm each
worker up.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

import numpy as np

from calibri.backbones.loading import load_backbone
from calibri.rewards.base import RewardTerm
from calibri.search.config import SearchConfig
from calibri.search.distributed import RayScorer
from calibri.search.objective import Objective
from calibri.tabletop.prompts import prompt_set


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", default="tabletop")
    parser.add_argument("--reward", default="tabletop-align,tabletop-quality")
    parser.add_argument("--pictures", type=int, default=256)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    config = SearchConfig.make(
        backbone=args.backbone,
        rewards=tuple(RewardTerm.parse(text) for text in args.reward.split(",")),
        prompts=tuple(prompt_set("search", 64, seed=0)),
        steps=args.steps,
        batch_size=args.batch_size,
        device="cpu",
    )
    layout = load_backbone(args.backbone, device="cpu").layout(config.granularity)
    speeds, scores = {}, {}
    for count in (1, 2):
        with RayScorer.connected(config, workers=count, threads=1) as scorer:
            objective = Objective(config, layout, scorer)
            rng = np.random.default_rng(0)
            members = [objective.space.decode(rng.normal(1, 0.1, objective.space.size)) for _ in range(16)]
            requests = [
                objective.request(objective.source.pair(i // 16), members[i % 16])
                for i in range(args.pictures)
            ]
            names = objective.names
            scorer(requests[: 2 * args.batch_size * count], names)
            times = []
            for _ in range(args.rounds):
                began = time.perf_counter()
                scores[count] = scorer(requests, names)
                times.append(time.perf_counter() - began)
            speeds[count] = args.pictures / min(times)
            print(f"{count} workers: {speeds[count]:.1f} pictures a second", file=sys.stderr, flush=True)
    out = {
        "command": "python benchmarks/workers.py " + " ".join(sys.argv[1:]),
        "pictures_per_second": {str(count): round(speed, 2) for count, speed in speeds.items()},
        "speed_up": round(speeds[2] / speeds[1], 3),
        "aim": 1.8,
        "same_scores": bool((scores[1] == scores[2]).all()),
    }
    print(json.dumps(out, indent=1))


if __name__ == "__main__":
    main()
