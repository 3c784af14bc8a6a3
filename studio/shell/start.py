"""Starts the studio in this process: `python app.py`, or `calibri studio` where it is installed."""

from __future__ import annotations

import argparse
import logging
import signal
import socket
import sys
import threading
import time

from calibri.console import print_in_any_encoding
from calibri.errors import CalibriError
from calibri.words import count
from studio.access import passwords
from studio.access.signin import Signin
from studio.settings import Settings, add_options, choose_settings, on_zero_gpu, quieten, use_threads
from studio.shell.logs import open_logs

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
    print_in_any_encoding()
    logging.basicConfig(level=logging.INFO, handlers=open_logs(settings.data), force=True)
    logging.getLogger("httpx").setLevel(logging.WARNING)

    lend = None
    if on_zero_gpu():  # its package wants to be imported before torch, in the main thread
        from studio.machine.zero_gpu import find_lend

        lend = find_lend()
    from studio.shell.quick_start import import_gradio

    import_gradio()
    from studio.shell.app import build_app, launch_options, open_studio
    from studio.shell.lanes import open_queue

    try:
        studio = open_studio(settings, lend)
    except CalibriError as error:
        print(f"The studio cannot start. {error}", file=sys.stderr)
        return 1
    try:
        studio.studies.open()
    except CalibriError as error:
        studio.close()
        print(f"The studio cannot start. {error}", file=sys.stderr)
        return 1
    if studio.studies.archive is not None:
        print(f"Archive: {studio.studies.archive.begin()}", flush=True)
    if lost := studio.studies.tell_dropped():
        print(lost, file=sys.stderr)
    app = open_queue(build_app(studio), studio.core)
    if studio.core.host.is_lent:
        studio.core.start()  # what is placed later does not reach the GPU
    port = settings.port or find_free_port(settings.host)
    try:
        app.launch(server_port=port, prevent_thread_lock=True, **launch_options(studio))
    except OSError as error:
        print(
            f"Port {port} is not free ({error}). Choose another with --port, or 0 for any.", file=sys.stderr
        )
        studio.close()
        return 1
    if not studio.core.host.is_lent:
        studio.core.start()
    if studio.leftovers is not None:
        studio.leftovers.start()
    shown = "127.0.0.1" if settings.host == "0.0.0.0" else settings.host
    print(
        f"Calibri Studio is at http://{shown}:{port}{settings.root_path} "
        f"(up in {time.monotonic() - began:.1f} s; "
        f"{studio.core.backbone_name} loads in the background). Ctrl+C ends it.",
        flush=True,
    )
    print(tell_door(studio.core.signin), end="", flush=True)
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    ended.wait()
    print("Closing.", flush=True)
    app.close(verbose=False)
    studio.close()
    studio.core.host.close()
    return 0


def tell_door(signin: Signin) -> str:
    """Who can sign in, in lines for the screen; empty at a studio without accounts."""
    names, hub = signin.names, signin.hub and signin.settings.organiser_names
    said = [f"{count(len(names), 'account')}: {', '.join(names)}."] if names else []
    said += [f"Hub accounts that organise: {', '.join(hub)}."] if hub else []
    if not said and signin.settings.demo:
        said = [
            "Nobody can organise this public studio: give accounts in CALIBRI_AUTH (or hf_oauth to a Space)."
        ]
    return "".join(f"{line}\n" for line in said)


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`calibri studio`, with the options of app.py."""
    command = subparsers.add_parser("studio", help="open the studio in a browser", description=ABOUT)
    add_options(command)
    command.set_defaults(run=lambda args: run_studio(choose_settings(vars(args), command)))
    actions = command.add_subparsers(metavar="[hash-password NAME]")
    words = "print a line for --auth-file: the name, and a hash of a password that is asked for"
    passwords.add_command(actions.add_parser("hash-password", help=words, description=words))
