"""`calibri rewards serve`: a reward for other machines."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from pathlib import Path

from calibri.errors import RewardError
from calibri.files import read_text


def add_serve(actions: argparse._SubParsersAction) -> None:
    """Adds the action to `calibri rewards`."""
    parser = actions.add_parser(
        "serve",
        help="serve a reward to other machines over HTTP",
        description="Loads a reward and scores what `--reward-source NAME=http://HOST:PORT` of another "
        "machine sends. The token is that of --token-file, else of CALIBRI_REWARD_TOKEN; beyond this machine "
        "there must be one. Ctrl-C ends it.",
    )
    parser.add_argument("name", help="of the reward, or its file")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8790, help="port (default 8790); 0 is any that is free")
    parser.add_argument("--token-file", type=Path, metavar="FILE", help="a file that holds the token")
    parser.add_argument("--source", help="hub id, id@revision or folder (default: the catalogue's)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, mps")
    parser.add_argument("--dtype", default="auto", help="auto, float32, bfloat16, float16")
    parser.set_defaults(run=serve)


def serve(args: argparse.Namespace) -> int:
    """Serves until it is interrupted."""
    from calibri.rewards.base import close_reward, load_reward
    from calibri.rewards.server import RewardServer, is_loopback

    token = read_token_file(args.token_file)
    if not token and not is_loopback(args.host):  # said before minutes of loading
        raise RewardError(
            f"--host {args.host} can be reached from other machines: expected a token for it, by "
            "--token-file or CALIBRI_REWARD_TOKEN"
        )
    reward = load_reward(args.name, args.source, args.device, args.dtype)
    try:
        with RewardServer(reward, args.host, args.port, token) as server:
            print(
                f"Serving {reward.info.name} ({reward.info.revision or 'no revision'}) at {server.url}",
                flush=True,
            )
            if not token:
                print(
                    "Without a token: programs of this machine alone reach it.", file=sys.stderr, flush=True
                )
            signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
            server.serve_forever(poll_interval=0.2)
    finally:
        close_reward(reward)
    return 0


def read_token_file(path: Path | None) -> str:
    """The token of a file, or of the environment. Raises RewardError, which does not tell it."""
    from calibri.rewards.remote import TOKEN, read_token

    if path is None:
        return read_token()
    try:
        token = read_text(path, 4096, RewardError).strip()
    except RewardError as error:
        raise RewardError(f"--token-file: {error}") from error
    if not token or any(not "!" <= letter <= "~" for letter in token):
        raise RewardError(f"--token-file: expected one line of visible ASCII, as {TOKEN} would hold")
    return token
