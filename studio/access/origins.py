"""Where a request comes from: this machine or elsewhere, a page of this studio or another site's."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

from studio.settings import Settings

LOOPBACK = ("127.0.0.1", "localhost", "::1")
#: What proxies add.
FORWARDED = (
    "forwarded",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-server",
    "x-forwarded-port",
    "x-real-ip",
    "x-original-forwarded-for",
    "cf-connecting-ip",
    "true-client-ip",
)
SAFE = ("GET", "HEAD", "OPTIONS")
Headers = Mapping[str, str]


def host_of(text: str) -> str:
    """The name in `name:port`, `[::1]:port` or an origin, in small letters; empty where there is none."""
    try:
        found = urlsplit(text if "//" in text else f"//{text}")
        return (found.hostname or "").rstrip(".") if found.port != 0 else ""
    except ValueError:
        return ""


def is_loopback(name: str) -> bool:
    """Whether only this machine itself is called so."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def listens_here_only(settings: Settings) -> bool:
    return is_loopback(settings.host.strip("[]")) and not settings.share


def is_known_host(settings: Settings, host: str) -> bool:
    """Whether the studio answers to this Host header. Another site can point a name of its own at this
    machine (DNS rebinding); its pages are then pages of this studio for a browser.

    Checked where no sign-in protects a studio that listens to this machine only, and wherever names are set.
    """
    open_here = listens_here_only(settings) and not (settings.has_accounts or settings.demo)
    if not (open_here or settings.host_names):
        return True
    name = host_of(host)
    if name in (host_of(known) for known in settings.host_names):
        return True
    return is_loopback(name) or (not listens_here_only(settings) and _is_address(name))


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True  # no other site can point an address anywhere


def is_local(settings: Settings, headers: Headers, client: str, http_version: str = "1.1") -> bool:
    """Whether somebody at this machine asks, and not through a proxy that lets others in.

    A proxy is known by what it adds, by the name or the page that its visitors asked for, and by HTTP/1.0,
    which no browser speaks and nginx does unless told otherwise.
    """
    if not listens_here_only(settings) or settings.root_path:
        return False
    if any(headers.get(name) for name in FORWARDED) or http_version == "1.0":
        return False
    pages = [headers.get(name, "") for name in ("origin", "referer")]
    names = [host_of(headers.get("host", "")), *(host_of(page) for page in pages if page)]
    return all(map(is_loopback, names)) and is_loopback(client)


def is_foreign(settings: Settings, headers: Headers) -> bool:
    """Whether a page of another site made a browser send this.

    `Sec-Fetch-Site` is what browsers say themselves; without it (older ones, and plain HTTP) `Origin` counts.
    Programs send neither.
    """
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = headers.get("origin")
    if not origin:
        return False
    try:
        found = urlsplit(origin)
        asked = found.netloc.lower()
    except ValueError:
        return True
    forwarded = headers.get("x-forwarded-host", "").split(",")[0].strip().lower()
    own = [headers.get("host", "").lower(), forwarded]
    if asked and asked in [name for name in own if name]:
        return False
    return not asked or host_of(origin) not in map(host_of, settings.host_names)


def may_read(settings: Settings, headers: Headers) -> bool:
    """Whether a GET may be answered: pages of other sites may link here and, where set, show a frame, but
    fetch nothing."""
    if not is_foreign(settings, headers):
        return True
    return headers.get("sec-fetch-mode") == "navigate"
