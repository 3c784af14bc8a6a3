"""Start Calibri Studio: `python app.py`, then open the printed address. `python app.py --help` shows the
options."""

from __future__ import annotations

import logging
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence

from studio.settings import quieten, read_settings, use_threads


def free_port(host: str) -> int:
    """A port nobody listens on, for `--port 0`."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the studio until it is interrupted. Returns the exit code."""
    began = time.monotonic()
    settings = read_settings(sys.argv[1:] if arguments is None else arguments)
    quieten()
    use_threads(settings.threads)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)

    from studio.shell.app import build_app, launch_options, open_studio

    studio = open_studio(settings)
    app = build_app(studio).queue(max_size=settings.queue, default_concurrency_limit=8, api_open=False)
    port = settings.port or free_port(settings.host)
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


if __name__ == "__main__":
    sys.exit(main())
