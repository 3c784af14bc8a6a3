"""Another backbone for everybody: what can be chosen, who may, and how far the loading is. No Gradio."""

from __future__ import annotations

import threading
from pathlib import Path

from calibri.backbones.catalog import CATALOG, resolve
from calibri.errors import BackboneError
from studio.core import Services
from studio.machine.host import HostError, shown_name, without_paths

ASKED = "a name of the list, a hub id (owner/name) or a folder with a diffusers pipeline"


def offered(services: Services) -> list[str]:
    """Names to choose from: the catalogue's, and what else this studio has loaded since its start."""
    return [*CATALOG, *(name for name in services.host.known if name not in CATALOG)]


def switch(services: Services, name: object, username: str | None) -> str:
    """Begin to load it, and say so. The one before is unloaded first, but not for a name that leads nowhere.

    Raises CalibriError for whoever may not, BackboneError for what is no backbone, HostError while a search
    or another load uses the model.
    """
    services.organisers_only(username)
    if not isinstance(name, str) or not name.strip():
        raise HostError(f"Expected {ASKED}.")
    text = name.strip()
    source = services.host.known.get(text, text)
    if text not in offered(services) and not services.may_organise(username):
        raise HostError(
            "Other machines can reach this studio: only its organisers may load what is not in the list, "
            "after signing in."
        )
    try:
        spec = resolve(source)
    except BackboneError as error:
        raise BackboneError(without_paths(str(error))) from None
    status, loaded = services.host.status, services.host.backbone
    if status.phase == "ready" and loaded is not None and loaded.spec.source == spec.source:
        raise HostError(f"{spec.name} is loaded already.")
    services.host.load(source)
    threading.Thread(target=services.warm, name="load-rewards", daemon=True).start()
    return f"{shown_name(source)} is loading. The pages follow when it is ready."


def progress(services: Services) -> str:
    """What can be said of a download under way; empty for a backbone of this machine."""
    source = services.host.known.get(services.host.status.backbone, "")
    spec = CATALOG.get(source)
    source = spec.source if spec is not None else source
    if source.count("/") != 1 or source.startswith(("/", ".", "~")):
        return ""
    from huggingface_hub.constants import HF_HUB_CACHE  # the hub's own setting

    size = downloaded(source, Path(HF_HUB_CACHE))
    return f"{size / 1e9:.1f} GB of it on this machine" if size else "asking the hub"


def downloaded(hub_id: str, cache: Path) -> int:
    """Bytes of this model in the hub's cache folder, those of unfinished files included."""
    folder = cache / f"models--{hub_id.replace('/', '--')}" / "blobs"
    if not folder.is_dir():
        return 0
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
