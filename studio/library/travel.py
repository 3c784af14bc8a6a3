"""Calibrations to the hub and from it, as the page Library does it. No Gradio.

A repository is named by `owner/name` and nothing else: what a web page sends is neither a path of this
machine nor another host. A token is that of the visitor's own sign-in with the hub, or, for whoever organises
this studio, that of its machine; it is handed to the hub's own client, and neither kept nor logged.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from calibri.calibration.artifact import Calibration
from calibri.calibration.hub import CARD, FILE, HUB_ID, PICTURES
from calibri.calibration.hub import pull as pull_file
from calibri.calibration.hub import push as push_file
from calibri.errors import ArtifactError, CalibriError
from calibri.words import count, slug
from studio.access.hub_token import read_hub_token
from studio.calibrations import Entry, read_file
from studio.core import Core
from studio.library.thumbnails import PROMPT, SEED
from studio.machine.render_cache import RenderCache
from studio.rendering.shots import RENDERS

if TYPE_CHECKING:
    from gradio import Request

LONGEST_REPO = 300
SIGN_IN = (
    "Sign in with your hub account first, at /login/huggingface?for=jobs of this Space: the calibration is "
    "then pushed in your name."
)


def choose_token(core: Core, request: Request | None) -> str | None:
    """The visitor's own token of the hub; None, for that of this machine, if they organise this studio.

    Raises CalibriError for others: nobody acts with the owner's token but the owner.
    """
    own = read_hub_token(request)
    if own is not None:
        return own.token
    if core.signin.hub is not None and not core.rights.may_organise(request):
        raise CalibriError(SIGN_IN)
    core.rights.study_organisers_only(request)
    return None


def read_repo(text: object, *, revisions: bool) -> str:
    """`owner/name`, or also `owner/name@revision`. Raises ArtifactError for anything else."""
    given = text.strip() if isinstance(text, str) else ""
    found = HUB_ID.fullmatch(given) if len(given) <= LONGEST_REPO else None
    if found is None or (found[2] and not revisions):
        wanted = "owner/name or owner/name@revision" if revisions else "owner/name"
        raise ArtifactError(f"Expected a repository of the hub as {wanted}, got {given[:80]!r}.")
    return given


def describe_push(
    core: Core, entry: Entry | None, repo: object, private: object, request: Request | None
) -> str:
    """What a push would write, and as whom, before anything is sent."""
    if entry is None:
        return "Choose a calibration first."
    try:
        name = read_repo(repo, revisions=False)
    except ArtifactError:
        name = f"owner/{slug(entry.title, 'calibration', 60)}"
    try:
        token = choose_token(core, request)
    except CalibriError as error:
        return str(error)
    kind = "public" if private is False else "private"
    cache = _cache(core)
    pictures = sum(map(cache.holds, _keys(core, entry.calibration).values()))
    with_pictures = f" and {count(pictures, 'picture')} in {PICTURES}/" if pictures else ""
    whose = "your hub account" if token is not None else "the token of this machine"
    return (
        f"Push writes {FILE}, {CARD}{with_pictures} to {name}, with {whose}. A new repository is {kind}; one "
        f"that is there keeps its visibility. The files tell the scales of “{entry.title}” and how they were "
        "found."
    )


def push(core: Core, entry: Entry, repo: object, private: object, request: Request | None) -> str:
    """Send a calibration to the hub. Returns the address of its repository. Raises ArtifactError with what
    the hub said, CalibriError for those who may not."""
    name = read_repo(repo, revisions=False)
    token = choose_token(core, request)
    if not isinstance(private, bool):
        raise ArtifactError(f"Expected private or public, got {private!r}.")
    with _pictures(core, entry.calibration) as paths:
        return push_file(entry.calibration, name, private=private, pictures=paths, token=token)


def pull(core: Core, repo: object, request: Request | None) -> Entry:
    """Fetch a calibration from the hub and save it. Raises ArtifactError with what the hub said, and
    CalibriError for those who may not change the library."""
    core.rights.organisers_only(request)
    name = read_repo(repo, revisions=True)
    token = choose_token(core, request)
    with tempfile.TemporaryDirectory() as folder:
        path = pull_file(name, token=token, cache=Path(folder))
        try:
            found = read_file(path, core.host.backbone)
        except CalibriError as error:
            raise ArtifactError(f"{name}: {FILE} is no calibration: {error}") from error
    if found.title == Path(FILE).stem:  # it has no title of its own
        found = found.model_copy(update={"title": name.partition("@")[0].rpartition("/")[2]})
    made = found.model_copy(update={"found": {**found.found, "hub": name}})
    return core.calibrations.save(made)


def _cache(core: Core) -> RenderCache:
    return RenderCache(core.settings.data / RENDERS)


def _keys(core: Core, calibration: Calibration) -> dict[str, str]:
    """Name of a picture on the card → its key in the cache: the base and the calibration on one prompt."""
    backbone = core.host.backbone
    if backbone is None or not calibration.belongs_to(backbone.spec.name, backbone.fingerprint):
        return {}
    asked = (backbone.fingerprint, PROMPT, SEED, backbone.spec.steps)
    return {"base": RenderCache.key(*asked), "calibrated": RenderCache.key(*asked, calibration)}


@contextmanager
def _pictures(core: Core, calibration: Calibration) -> Iterator[list[Path]]:
    """Sample pictures that were rendered before, as PNG files that hold nothing else."""
    cache = _cache(core)
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for name, key in _keys(core, calibration).items():
            kept = cache.get(key)
            if kept is not None:
                path = Path(folder) / f"{name}.png"
                kept.image.save(path, "PNG")
                paths.append(path)
        yield paths
