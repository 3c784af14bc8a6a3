"""The table of a public studio's limits in docs/hosting.md, from the code: tests/docs_tables.py writes it."""

from __future__ import annotations

from studio.access import gate, limits
from studio.access.traffic import REQUESTS, UPLOADS
from studio.shell import lanes


def demo_limits() -> tuple[tuple[str, ...], list[tuple[str, str]]]:
    times = f"{limits.AT_ONE_ADDRESS} times that for an address, {limits.ALL_TOGETHER} times for all together"
    megabytes = [f"{rate.burst / 1e6:.0f} MB, then {rate.per_second / 1e6:g} MB a second" for rate in UPLOADS]
    counts = [f"{rate.burst}, then {rate.per_second} a second" for rate in REQUESTS]
    rows = [
        ("pictures a minute", f"`--rate`; {times}"),
        ("pictures in one request", str(limits.MOST_PICTURES)),
        ("requests under way", str(limits.MOST_AT_ONCE)),
        ("characters of a prompt", str(limits.LONGEST_PROMPT)),
        ("steps", str(limits.MOST_STEPS)),
        ("members of an ensemble", str(limits.MOST_MEMBERS)),
        ("picture size", "no more pixels than the backbone's own size"),
        ("work of one request", f"that of `--rate` usual pictures, at least {limits.MOST_PICTURES}"),
        ("requests that wait, of all visitors", "`--queue`"),
        ("events that wait or are handled", str(lanes.MOST_OF_ONE)),
        ("bytes of one call", f"{gate.LARGEST_CALL_OF_VISITORS // 1024} KB"),
        ("files sent at once", f"{gate.LARGEST_UPLOAD_OF_VISITORS // 2**20} MB, each 2 MB"),
        ("files sent in a row", f"{megabytes[0]}; for all {megabytes[-1]}"),
        ("requests in a row", f"{counts[0]}; for all {counts[-1]}"),
    ]
    return ("what", "most for one visitor"), rows
