"""Starts the studio in this process: `python app.py`, or `calibri studio` where it is installed."""

from __future__ import annotations

import argparse
import logging
import signal
import socket
import sys
import threading
import time

from calibri.errors import CalibriError
from studio.settings import Settings, add_options, choose_settings, quieten, use_threads

ABOUT = "Open the studio on this machine, for a browser."


def find_free_port(host: str) -> int:
    """A port that nobody listens on, for `--port 0`."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def run_studio(settings: Settings) -> int:
    """Run the studio until it is interrupted. Returns the exit code."""
    began = time.monotonic()
    quieten()
    use_threads(settings.threads)
    words = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    logging.basicConfig(level=logging.INFO, format=words, force=True)
    logging.getLogger("httpx").setLevel(logging.WARNING)

    from studio.shell.app import build_app, launch_options, open_studio

    studio = open_studio(settings)
    try:
        studio.studies.open()
    except CalibriError as error:
        studio.close()
        print(f"The studio cannot start. {error}", file=sys.stderr)
        return 1
    if lost := studio.studies.tell_dropped():
        print(lost, file=sys.stderr)
    app = build_app(studio).queue(max_size=settings.queue, default_concurrency_limit=8, api_open=False)
    port = settings.port or find_free_port(settings.host)
    try:
        app.launch(server_port=port, prevent_thread_lock=True, **launch_options(studio))
    except OSError as error:
        print(
            f"Port {port} is not free ({error}). Choose another with --port, or 0 for any.", file=sys.stderr
        )
        return 1
    studio.core.start()
    shown = "127.0.0.1" if settings.host == "0.0.0.0" else settings.host
    print(
        f"Calibri Studio is at http://{shown}:{port}{settings.root_path} "
        f"(up in {time.monotonic() - began:.1f} s; "
        f"{studio.core.backbone_name} loads in the background). Ctrl+C ends it.",
        flush=True,
    )
    if settings.demo and not settings.accounts:
        print("Nobody can organise this public studio: give accounts in CALIBRI_AUTH.", flush=True)
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    ended.wait()
    print("Closing.", flush=True)
    app.close(verbose=False)
    studio.close()
    return 0


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`calibri studio`, with the options of app.py."""
    command = subparsers.add_parser("studio", help="open the studio in a browser", description=ABOUT)
    add_options(command)
    command.set_defaults(run=lambda args: run_studio(choose_settings(vars(args), command)))
