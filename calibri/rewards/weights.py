"""Weights of reward models: where their files lie, what is in them, and what identifies them."""

from __future__ import annotations

import fnmatch
import functools
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from calibri.errors import RewardError, first_line
from calibri.memory import is_out_of_memory

if TYPE_CHECKING:
    import torch

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_DIGEST = re.compile(r"[0-9a-f]{64}")  # the hub's name of a large file is its SHA-256
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})\.")
_CLIENTS = ("httpx", "httpx2", "httpcore", "httpcore2", "requests")
_PICKLES = (".pt", ".pth", ".bin", ".ckpt")


@dataclass(frozen=True)
class At:
    """A file that another repository of the hub has, for layouts that were published in parts."""

    source: str
    path: str


Names = Mapping[str, "str | At | Sequence[str | At]"]


@dataclass(frozen=True)
class Files(Mapping[str, Path]):
    """What `find_files` found: role → file. `source`: folder or hub id with its commit."""

    source: str
    paths: dict[str, tuple[Path, ...]]

    def __getitem__(self, role: str) -> Path:
        """The file of that role; the first, where a pattern found several."""
        return self.paths[role][0]

    def __iter__(self) -> Iterator[str]:
        return iter(self.paths)

    def __len__(self) -> int:
        return len(self.paths)

    def all(self, role: str) -> tuple[Path, ...]:
        """All files of a role, sorted: the shards that a pattern found."""
        return self.paths[role]

    @functools.cached_property
    def id(self) -> str:
        """`weights_id` of all files: weights, configurations and tokenizer."""
        return weights_id(path for paths in self.paths.values() for path in paths)

    @functools.cached_property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(path.stat().st_size for paths in self.paths.values() for path in paths)


def find_files(source: str | Path, names: Names, *, reward: str = "") -> Files:
    """The files of a reward model, downloaded where they are not there yet.

    `source`: a folder in the published layout, or a hub id `owner/name` or `owner/name@revision`. `names`:
    role → path inside it, or several of which the first that is there counts; `*` finds all shards. `At`
    stands for a file of another repository. What lies in the hub's cache is used without asking the
    network, so a reward that ran once runs offline, with the same weights. Downloads show their progress.

    `reward`: the reward's name, for messages. Raises RewardError: no such repository or revision, one that
    asks for an agreement, no network and not in the cache, a file that is missing.
    """
    wanted = {role: _choices(choice) for role, choice in names.items()}
    label = f"{reward}: " if reward else ""
    folder = Path(source).expanduser()
    if str(source).strip() and folder.is_dir():
        own, missing = _match(_listing(folder), wanted)
        paths = {role: tuple(folder / name for name in found) for role, found in own.items()}
        where = str(folder)
    else:
        repository, _, revision = str(source).partition("@")
        if not _HUB_ID.fullmatch(repository):
            raise RewardError(
                f"{label}expected a folder or a hub id owner/name as the source, got {str(source)!r}"
            )
        snapshot, own, missing = _from_hub(repository, revision or None, wanted, label)
        paths = {role: tuple(snapshot / name for name in found) for role, found in own.items()}
        where = f"{repository}@{snapshot.name}"
    if missing:
        paths |= _from_others({role: wanted[role] for role in missing}, where, label)
    return Files(source=where, paths=paths)


def _choices(choice: str | At | Sequence[str | At]) -> tuple[str | At, ...]:
    return (choice,) if isinstance(choice, str | At) else tuple(choice)


def _listing(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]


def _match(
    there: Sequence[str], wanted: Mapping[str, tuple[str | At, ...]]
) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """For each role the names that it gets of those that are there, and the roles that get none."""
    own: dict[str, tuple[str, ...]] = {}
    for role, choices in wanted.items():
        for choice in choices:
            found = sorted(fnmatch.filter(there, choice)) if isinstance(choice, str) else []
            if found and _is_whole(found):
                own[role] = tuple(found)
                break
    return own, [role for role in wanted if role not in own]


def _is_whole(names: Sequence[str]) -> bool:
    """Whether no shard of `model-00001-of-00003.safetensors` and its like is missing."""
    shards = [match for match in map(_SHARD.search, names) if match]
    return not shards or len(shards) == int(shards[0][2])


def _from_others(
    wanted: Mapping[str, tuple[str | At, ...]], where: str, label: str
) -> dict[str, tuple[Path, ...]]:
    """Files that only other repositories have, each repository asked once."""
    asked: dict[str, dict[str, tuple[str | At, ...]]] = {}
    for role, choices in wanted.items():
        other = next((choice for choice in choices if isinstance(choice, At)), None)
        if other is None:
            names = " or ".join(str(choice) for choice in choices)
            raise RewardError(f"{label}{where} has no {names}: expected the layout in which it was published")
        asked.setdefault(other.source, {})[role] = (other.path,)
    paths: dict[str, tuple[Path, ...]] = {}
    for source, roles in asked.items():
        found = find_files(source, roles, reward=label.removesuffix(": "))
        paths |= found.paths
    return paths


def _from_hub(
    repository: str, revision: str | None, wanted: Mapping[str, tuple[str | At, ...]], label: str
) -> tuple[Path, dict[str, tuple[str, ...]], list[str]]:
    """The snapshot folder, the names found for each role, and the roles without a file."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    cached = _cached(repository, revision)
    if cached is not None:
        own, missing = _match(_listing(cached), wanted)
        if all(any(isinstance(choice, At) for choice in wanted[role]) for role in missing):
            return cached, own, missing
    try:
        own, missing = _match(HfApi().list_repo_files(repository, revision=revision), wanted)
        names = [name for found in own.values() for name in found]
        snapshot = snapshot_download(repository, revision=revision, allow_patterns=names)
    except (HfHubHTTPError, OSError, RuntimeError) as error:
        raise RewardError(f"{label}{_why_not(repository, revision, error)}") from error
    except Exception as error:  # the HTTP client has errors of its own for a network that is not there
        if type(error).__module__.split(".")[0] not in _CLIENTS:
            raise
        raise RewardError(f"{label}{_offline(repository)}") from error
    return Path(snapshot), own, missing


def _cached(repository: str, revision: str | None) -> Path | None:
    """The folder of what the hub's cache has of a repository, be it only a part; None for nothing."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repository, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError as error:
        # A snapshot from which files were left out on purpose, as here, counts as incomplete.
        found = getattr(error, "snapshot_path", None)
        return None if found is None else Path(found)


def is_cached(source: str) -> bool:
    """Whether weights of this hub id lie in the cache, or in this folder; asks no network."""
    folder = Path(source).expanduser()
    if not folder.is_dir():
        repository, _, revision = source.partition("@")
        found = _cached(repository, revision or None) if _HUB_ID.fullmatch(repository) else None
        if found is None:
            return False
        folder = found
    return any(path.suffix in (".safetensors", *_PICKLES) for path in folder.rglob("*"))


def _why_not(repository: str, revision: str | None, error: Exception) -> str:
    """A sentence for what the hub answered."""
    from huggingface_hub import errors

    page = f"https://huggingface.co/{repository}"
    if isinstance(error, errors.GatedRepoError):
        return f"{repository} asks for an agreement: accept it at {page}, then sign in with `hf auth login`"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{repository} has no revision {revision!r}"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"no repository {repository} on the hub, or a private one: see {page}"
    if isinstance(error, errors.HfHubHTTPError) and error.response is not None:
        return f"the hub answered {error.response.status_code} for {repository}; try again later"
    if isinstance(error, errors.LocalEntryNotFoundError | ConnectionError):
        return _offline(repository)
    return f"{repository} cannot be downloaded: {first_line(error)}"


def _offline(repository: str) -> str:
    return (
        f"{repository} is not in the cache and the hub cannot be reached: connect once, or give a folder "
        "with its files as the source"
    )


def weights_id(files: Iterable[Path]) -> str:
    """16 hexadecimal digits that stand for the content of these files, whatever they are called.

    A file in the hub's cache is known by its SHA-256, which is its name there; others are read once.
    """
    digests = sorted(_sha256(path) for path in files)
    if not digests:
        raise RewardError("expected at least one file of weights, got none")
    return hashlib.sha256("".join(digests).encode()).hexdigest()[:16]


def _sha256(path: Path) -> str:
    real = path.resolve()
    if real.parent.name == "blobs" and _DIGEST.fullmatch(real.name):
        return real.name
    status = real.stat()
    return _read_sha256(str(real), status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=256)
def _read_sha256(path: str, size: int, changed: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_tensors(
    path: Path | Sequence[Path], device: str | torch.device = "cpu", dtype: torch.dtype | None = None
) -> dict[str, torch.Tensor]:
    """name → tensor of a file or of several shards, on `device`; `dtype` for those of floating point.

    Reads safetensors, and .pt, .pth, .bin and .ckpt with `weights_only`: tensors, numbers and texts alone.
    Of a training checkpoint its `state_dict` counts.

    Raises RewardError for a file that is damaged, or for a pickle that would run code.
    """
    import torch

    paths = [path] if isinstance(path, Path) else list(path)
    found: dict[str, torch.Tensor] = {}
    for each in paths:
        found |= _read(each, torch.device(device))
    if dtype is not None:
        found = {k: t.to(dtype) if t.is_floating_point() else t for k, t in found.items()}
    return found


def _read(path: Path, device: torch.device) -> dict[str, torch.Tensor]:
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if path.suffix == ".safetensors":
        try:
            return load_file(path, device=str(device))
        except (SafetensorError, OSError) as error:
            raise RewardError(f"{path.name} cannot be read as safetensors: {error}") from error
    if path.suffix not in _PICKLES:
        raise RewardError(f"expected weights in .safetensors, {', '.join(_PICKLES)}, got {path.name}")
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise RewardError(
            f"{path.name} is damaged, or a pickle that holds more than tensors, which could run any code: "
            "refused. Save its state_dict as safetensors"
        ) from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not all(isinstance(v, torch.Tensor) for v in content.values()):
        raise RewardError(f"{path.name}: expected names and tensors, got {type(content).__name__}")
    return content
