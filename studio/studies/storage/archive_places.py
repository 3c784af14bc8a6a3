"""Where an archive keeps its parts: a folder, or a private dataset repository of the Hugging Face hub.

Only the hub's own client talks to the hub, with the token that it finds itself (`HF_TOKEN`, `hf auth login`).
The token is not read, stored or printed here, and errors are told without what the client says of a request.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final, Protocol

from calibri.calibration.hub import HUB_ID, is_hub_id
from calibri.errors import StudyError
from calibri.files import read_limited, write_whole

if TYPE_CHECKING:
    from huggingface_hub import HfApi

REPO: Final = "dataset"
LARGEST_PART = 2 * 2**30  # bytes
CARD = """---
tags: [calibri]
---
The votes and studies of a Calibri Studio, as Parquet parts that are only ever added. The studio writes here,
and reads it where its own folder is empty.
"""


class Place(Protocol):
    """Keeps files, which never change. All methods raise StudyError where it cannot be used."""

    @property
    def name(self) -> str:
        """What people call it."""

    def list(self) -> set[str]:
        """The names of its files."""

    def read(self, name: str) -> bytes: ...

    def add(self, parts: Mapping[str, bytes]) -> None:
        """Keep these files, all at once where the place can do that."""


def open_place(where: str) -> Place:
    """A repository for `owner/name`, else a folder. Nothing is made or asked yet. Raises StudyError."""
    if is_hub_id(where):
        if (found := HUB_ID.fullmatch(where)) is None or found[2]:
            raise StudyError(f"expected a repository as owner/name, got {where[:120]!r}")
        return HubPlace(where)
    return FolderPlace(Path(where))


class FolderPlace:
    """A folder, on another disk or a mounted bucket, say. It is made when first needed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def name(self) -> str:
        return self._folder.name

    def list(self) -> set[str]:
        with self._told():
            self._folder.mkdir(parents=True, exist_ok=True)
            return {path.name for path in self._folder.iterdir() if not path.name.startswith(".")}

    def read(self, name: str) -> bytes:
        with self._told():
            return read_limited(self._folder / name, LARGEST_PART, StudyError)

    def add(self, parts: Mapping[str, bytes]) -> None:
        with self._told():
            for name, data in parts.items():
                write_whole(self._folder / name, data, durable=True)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StudyError(f"the folder {self.name} cannot be used ({error.strerror})") from None


class HubPlace:
    """A dataset repository, made private where it is not there. One that everybody can read is refused: its
    parts tell which arm is on which side of a study that is open."""

    def __init__(self, repo: str) -> None:
        self._repo = repo
        self._ready = False

    @property
    def name(self) -> str:
        return self._repo

    @cached_property
    def _api(self) -> HfApi:
        from huggingface_hub import HfApi

        return HfApi()

    def list(self) -> set[str]:
        with self._told():
            self._prepare()
            return set(self._api.list_repo_files(self._repo, repo_type=REPO))

    def read(self, name: str) -> bytes:
        with self._told(), TemporaryDirectory() as folder:
            path = self._api.hf_hub_download(self._repo, name, repo_type=REPO, local_dir=folder)
            return read_limited(path, LARGEST_PART, StudyError)

    def add(self, parts: Mapping[str, bytes]) -> None:
        from huggingface_hub import CommitOperationAdd

        with self._told():
            self._prepare()
            operations = [CommitOperationAdd(name, data) for name, data in parts.items()]
            self._api.create_commit(self._repo, operations, commit_message="Votes", repo_type=REPO)

    def _prepare(self) -> None:
        """Once for each process: the repository is there, and nobody else reads it."""
        if self._ready:
            return
        self._api.create_repo(self._repo, repo_type=REPO, private=True, exist_ok=True)
        if not self._api.repo_info(self._repo, repo_type=REPO).private:
            raise StudyError(
                f"the repository {self._repo} is public: everybody could read which arm is where. Make it "
                "private, or name another one"
            )
        self._ready = True

    @contextmanager
    def _told(self) -> Iterator[None]:
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError

        from calibri.search.hub_jobs import hub_errors

        try:
            yield
        except HFValidationError:
            raise StudyError(f"expected a repository as owner/name, got {self._repo[:120]!r}") from None
        except HfHubHTTPError as error:
            status = error.response.status_code if error.response is not None else 0
            what = "wants a token that may write there (HF_TOKEN)" if status in (401, 403, 404) else "refuses"
            raise StudyError(f"the hub {what} (status {status})") from None
        except hub_errors() as error:
            raise StudyError(f"the hub cannot be reached ({type(error).__name__})") from None
