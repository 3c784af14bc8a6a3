"""Calibrations on the Hugging Face hub: a small repository with `calibration.json` and a card.

Only the hub's own client talks to the hub (`HF_ENDPOINT` names another one). Its token, from `HF_TOKEN`,
`hf auth login` or an argument, is never printed or stored here.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibri.errors import ArtifactError
from calibri.files import explain

if TYPE_CHECKING:
    from calibri.calibration.artifact import Calibration

FILE, CARD = "calibration.json", "README.md"
PICTURES = "pictures"  # a folder of the repository
MOST_PICTURES, LARGEST_PICTURE = 24, 8 * 2**20
_OF_FILES = (".json", ".jsonl", ".txt", ".csv", ".tsv", ".png", ".safetensors")
# No part of a revision is `..`: the hub's client makes a path of it in its cache.
HUB_ID = re.compile(
    r"(\w[\w.-]{0,95}/\w[\w.-]{0,95})(?:@(?=[\w./-]{1,100}$)(\w[\w.-]*(?:/\w[\w.-]*)*))?", re.ASCII
)


def is_hub_id(text: str) -> bool:
    """Whether a text is `owner/name` or `owner/name@revision`: neither a file that is there nor one that is
    missing."""
    return bool(HUB_ID.fullmatch(text)) and not text.lower().endswith(_OF_FILES) and not Path(text).exists()


def push(
    calibration: Calibration,
    repo: str,
    *,
    private: bool = True,
    pictures: Sequence[Path] = (),
    token: str | None = None,
) -> str:
    """Send a calibration to the repository `owner/name`, which is made where it is not there. Returns its
    address.

    `private`: of a new repository. `pictures`: samples for the card, PNG files. `token`: None for that of
    this machine. Raises ArtifactError with what the hub said, and what to do.
    """
    if not (found := HUB_ID.fullmatch(repo)) or found[2]:
        raise ArtifactError(f"expected a repository as owner/name, got {repo[:120]!r}")
    samples = _read_pictures(pictures)
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi(token=token)
    files = {FILE: calibration.to_json().encode(), CARD: write_card(calibration, list(samples)).encode()}
    files |= {f"{PICTURES}/{name}": data for name, data in samples.items()}
    with _told(repo):
        api.create_repo(repo, private=private, exist_ok=True)
        api.create_commit(
            repo,
            [CommitOperationAdd(name, data) for name, data in files.items()],
            commit_message=" ".join(calibration.title.split()) or "A calibration",
        )
    return f"{api.endpoint}/{repo}"


def pull(repo: str, *, token: str | None = None, cache: Path | None = None) -> Path:
    """The file with the calibration of a repository, `owner/name` or `owner/name@revision`, in the hub's
    cache, or in the folder `cache`; `calibri.calibration.reading` reads it. Raises ArtifactError with what
    the hub said, and for a file that is too large for a calibration, before it is fetched."""
    from calibri.calibration.artifact import LARGEST_FILE

    found = HUB_ID.fullmatch(repo)
    if not found:
        raise ArtifactError(f"expected a repository as owner/name, got {repo[:120]!r}")
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    with _told(found[1]):
        try:
            address = hf_hub_url(found[1], FILE, revision=found[2])
            size = get_hf_file_metadata(address, token=token).size or 0
        except _network_errors():
            size = 0  # the cache may have it; else the next line says what is wrong
        if size > LARGEST_FILE:
            raise ArtifactError(f"{found[1]}: expected a {FILE} of at most {LARGEST_FILE} bytes, got {size}")
        return Path(hf_hub_download(found[1], FILE, revision=found[2], token=token, cache_dir=cache))


def locate(place: str | Path) -> Path:
    """The path of a calibration's file: itself, or that of a repository of the hub. Raises ArtifactError."""
    return pull(str(place)) if is_hub_id(str(place)) else Path(place)


def write_card(calibration: Calibration, pictures: Sequence[str] = ()) -> str:
    """The README of a repository: what the hub's index reads, how it was found, how to use it."""
    from calibri.backbones.catalog import CATALOG

    spec = CATALOG.get(calibration.backbone)
    about: dict[str, Any] = {
        "library_name": "calibri",
        "pipeline_tag": "text-to-image",
        "tags": ["calibri", "diffusion-transformer", calibration.granularity],
    }
    if spec is not None and not spec.is_local:
        about |= {"base_model": spec.source, "base_model_relation": "adapter"}
        if spec.licence:
            about["license"] = "other"
            about["license_name"] = _as_slug(spec.licence)
    title = " ".join(calibration.title.split()) or "A calibration"
    parts = [
        _front_matter(about),
        f"# {_plain(title)}",
        f"A calibration of {_plain(calibration.backbone or 'a diffusion transformer')}: "
        f"{len(calibration.names)} scales at {calibration.granularity} granularity"
        + (f", {len(calibration.members)} members. " if calibration.is_ensemble else ". ")
        + "It multiplies what attention and MLP branches add to the residual stream; no weight is changed.",
        _use(spec.source if spec is not None and not spec.is_local else "THE BASE MODEL"),
        *_gains(calibration),
        *_provenance(calibration),
    ]
    if pictures:
        parts.append(
            "## Pictures\n\n" + "\n".join(f"![{_plain(name)}]({PICTURES}/{name})" for name in pictures)
        )
    return "\n\n".join(parts) + "\n"


def _use(base: str) -> str:
    return (
        "## Use\n\n```python\nimport calibri\nfrom diffusers import DiffusionPipeline\n\n"
        f'pipe = DiffusionPipeline.from_pretrained("{base}")\n'
        'with calibri.load_calibration(pipe, "OWNER/NAME"):\n'
        '    pipe("a red cube").images[0]\n```'
    )


def _gains(calibration: Calibration) -> Iterator[str]:
    """What was measured on held-out prompts: calibrated minus base, with 95 % intervals."""
    gains = calibration.found.get("gains")
    if not isinstance(gains, dict) or not gains:
        return
    rows = []
    for name, gain in gains.items():
        if isinstance(gain, dict) and all(
            isinstance(gain.get(k), int | float) for k in ("mean", "low", "high")
        ):
            interval = f"{gain['low']:+.3f} to {gain['high']:+.3f}"
            rows.append(f"| {_plain(str(name))} | {gain['mean']:+.3f} | {interval} | {gain.get('n', '')} |")
    if rows:
        head = "| reward | calibrated − base | 95 % interval | pairs |\n| --- | --- | --- | --- |\n"
        yield "## On held-out prompts\n\n" + head + "\n".join(rows)


def _provenance(calibration: Calibration) -> Iterator[str]:
    words = ("how", "rewards", "objective", "steps", "preset", "optimizer", "images", "generations", "seed")
    known = {word: calibration.found[word] for word in words if word in calibration.found}
    if known:
        lines = "\n".join(f"- {word}: {_plain(str(value))}" for word, value in known.items())
        yield f"## How it was found\n\n{lines}"


def _front_matter(about: dict[str, Any]) -> str:
    # JSON values are YAML, too.
    lines = [f"{name}: {json.dumps(value, ensure_ascii=False)}\n" for name, value in about.items()]
    return f"---\n{''.join(lines)}---"


def _plain(text: str) -> str:
    """Text without the marks that Markdown and HTML read."""
    return re.sub(r"[|<>\[\]`*_\\\n\r]", " ", text)[:300].strip()


def _as_slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")[:60]


def _read_pictures(paths: Sequence[Path]) -> dict[str, bytes]:
    """Name → bytes. Raises ArtifactError for too many, too large ones, and for what is no PNG."""
    from calibri.files import read_limited

    if len(paths) > MOST_PICTURES:
        raise ArtifactError(f"expected at most {MOST_PICTURES} pictures, got {len(paths)}")
    found = {}
    for number, path in enumerate(paths, 1):
        data = read_limited(path, LARGEST_PICTURE, ArtifactError)
        if not data.startswith(b"\x89PNG\r\n\x1a\n"):
            raise ArtifactError(f"{path.name}: expected a PNG file")
        found[f"{number:02d}-{_as_slug(path.stem) or 'picture'}.png"] = data
    return found


@contextmanager
def _told(repo: str) -> Iterator[None]:
    """The hub's errors as sentences that say what to do."""
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        LocalTokenNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    sign_in = "sign in with `hf auth login`, or set HF_TOKEN"
    try:
        yield
    except LocalTokenNotFoundError as error:
        raise ArtifactError(f"{repo}: the hub wants a token: {sign_in}") from error
    except GatedRepoError as error:
        raise ArtifactError(f"{repo}: its owner grants access on its page; then {sign_in}") from error
    except RepositoryNotFoundError as error:
        raise ArtifactError(
            f"{repo}: not on the hub, or private: {sign_in} of an account that sees it"
        ) from error
    except RevisionNotFoundError as error:
        raise ArtifactError(f"{repo}: has no such revision") from error
    except HFValidationError as error:
        raise ArtifactError(f"expected a repository as owner/name, got {repo[:120]!r}") from error
    except LocalEntryNotFoundError as error:
        raise ArtifactError(f"{repo}: the hub cannot be reached, and it is not in the cache") from error
    except EntryNotFoundError as error:
        raise ArtifactError(f"{repo}: holds no {FILE}, so no calibration") from error
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        if status in (401, 403):
            raise ArtifactError(
                f"{repo}: this token may not do that: {sign_in} with a token that may write"
            ) from error
        raise ArtifactError(f"{repo}: the hub answered {status or 'an error'}; try again later") from error
    except _network_errors() as error:
        words = explain(error) if isinstance(error, OSError) else type(error).__name__
        raise ArtifactError(f"{repo}: the hub cannot be reached ({words})") from error


def _network_errors() -> tuple[type[Exception], ...]:
    """What the hub's client lets through where there is no network: its versions use httpx or httpx2."""
    known = (sys.modules.get("httpx"), sys.modules.get("httpx2"))
    return OSError, *(module.HTTPError for module in known if module is not None)
