"""Rewards in files of one's own: `./my_reward.py:MyReward`; `./old_reward.toml`, with its own environment.

Such a file is run. So it is named on a command line or in a program, never by a page: `load_known` finds
those alone that this process admitted.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL

from calibri.errors import CalibriError, RewardError
from calibri.files import read_limited
from calibri.plugins import tell
from calibri.words import without_paths

if TYPE_CHECKING:
    from PIL.Image import Image

    from calibri.rewards.base import Reward

LARGEST = 4 * 2**20  # bytes of a file
_NAME = re.compile(r"(?P<python>.+\.py)(?::(?P<object>[^\W\d]\w*))?|(?P<described>.+\.toml)")
_TERM = re.compile(r"(?P<name>.+?\.py:[^\W\d]\w*|.+?\.toml)(?::(?P<weight>.*))?")

_ADDRESS = re.compile(r"https?://", re.IGNORECASE)

_ADMITTED: dict[str, File] = {}
_ADDRESSES: set[str] = set()


def is_file_name(text: str) -> bool:
    """Whether a reward is named by its file."""
    return bool(_NAME.fullmatch(text))


def split_weight(text: str) -> tuple[str, str]:
    """(name, weight) of `name`, `name:weight` or `file.py:Class:weight`; no weight is an empty text."""
    found = _TERM.fullmatch(text)
    if found:
        return found["name"], found["weight"] or ""
    name, _, weight = text.partition(":")
    return name, weight


def admitted() -> Mapping[str, File]:
    """The files that this process may load by name: name → file."""
    return _ADMITTED


def admit(text: str) -> str:
    """Lets this process find a reward in a file, and gives the name under which records have it.

    That is its path from the current folder; of a file elsewhere that was given by its whole path, the file's
    name alone. Raises RewardError for a file that is not there, or for two of one name.
    """
    file = File.open(text)
    known = _ADMITTED.get(file.name)
    if known is not None and known.path != file.path:
        raise RewardError(f"{file.name}: expected one file of this name, got two in different folders")
    _ADMITTED[file.name] = file
    return file.name


def admit_recorded(names: Iterable[str]) -> None:
    """Admits those of these names that are files, found from the current folder. Raises RewardError."""
    for name in names:
        if is_file_name(name) and name not in _ADMITTED and (found := admit(name)) != name:
            raise RewardError(f"expected the path from the current folder, {found}, got a whole path")


def is_address(source: str | Path) -> bool:
    """Whether a source is a machine that serves the reward."""
    return isinstance(source, str) and bool(_ADDRESS.match(source))


def admit_addresses(sources: Iterable[str]) -> None:
    """Lets this process ask those of these sources that are addresses, and show them its token."""
    _ADDRESSES.update(source for source in sources if is_address(source))


def is_admitted(address: str) -> bool:
    """Whether a command or a program named this address."""
    return address in _ADDRESSES


def paths_of(names: Iterable[str]) -> dict[str, str]:
    """name → whole path of those that are admitted files: for workers of this search, not for records."""
    return {name: str(_ADMITTED[name].path) for name in names if name in _ADMITTED}


def admit_paths(paths: Mapping[str, str]) -> None:
    """Admits what another process of this search admitted: the inverse of `paths_of`."""
    for name, path in paths.items():
        if not Path(path).is_file():
            raise RewardError(f"{name}: expected its file at the same place on every machine, got none here")
        _ADMITTED[name] = File(name, Path(path), name.rpartition(":")[2] if ".py:" in name else "")


@dataclass(frozen=True)
class File:
    """A reward in a file. `name`: in records. `path`: whole. `target`: the class in a Python file."""

    name: str
    path: Path
    target: str

    @classmethod
    def open(cls, text: str) -> File:
        """Raises RewardError for a text that is written otherwise, or a file that is not there."""
        found = _NAME.fullmatch(text.strip())
        if not found or (found["python"] and not found["object"]):
            raise RewardError(f"expected FILE.py:Class or FILE.toml, got {without_paths(text)!r}")
        typed, target = found["python"] or found["described"], found["object"] or ""
        path = Path(os.path.abspath(Path(typed).expanduser()))
        recorded = _record_name(typed, path)
        name = f"{recorded}:{target}" if target else recorded
        if not path.is_file():
            raise RewardError(f"{name}: expected a file at this path from the current folder, got none")
        return cls(name, path, target)

    def load(self, device: str, **options: Any) -> Reward:
        """Runs the file; as a factory. Raises RewardError, whatever the file raises."""
        from calibri.rewards.base import check_reward, takes

        try:
            content = read_limited(self.path, LARGEST, RewardError)
        except RewardError as error:
            raise RewardError(f"{self.name}: {error}") from error
        if not self.target:
            from calibri.rewards.worker import load_described

            return load_described(content, self.path.parent, self.name, device, **options)
        digest = hashlib.sha256(content).hexdigest()[:16]
        factory = self._find(content, digest)
        if not takes(factory, device, options):
            given = f"the device and {', '.join(options)}" if options else "the device"
            raise RewardError(f"{self.name}: expected a class that is called with {given}")
        try:
            reward = factory(device, **options)
        except CalibriError:
            raise
        except Exception as error:
            raise RewardError(f"{self.name}: {tell(error)}") from error
        check_reward(self.name, reward)
        return FileReward(reward, self.name, digest)

    def _find(self, content: bytes, digest: str) -> Any:
        """The class. What is run is what was hashed; nothing is written beside it."""
        module = types.ModuleType(f"calibri_reward_{digest}")
        module.__file__ = str(self.path)
        sys.modules[module.__name__] = module  # dataclasses and pydantic look there
        try:
            exec(compile(content, str(self.path), "exec"), module.__dict__)
        except (Exception, SystemExit) as error:
            sys.modules.pop(module.__name__, None)
            raise RewardError(f"{self.name} cannot be run: {tell(error)}") from error
        found = getattr(module, self.target, None)
        if not callable(found):
            raise RewardError(
                f"{self.name}: expected a class or function {self.target} in the file, got none"
            )
        return found


def _record_name(typed: str, path: Path) -> str:
    if not Path(typed).is_absolute() and not typed.startswith("~"):
        return Path(os.path.normpath(typed)).as_posix()
    here = Path(os.getcwd())
    return path.relative_to(here).as_posix() if path.is_relative_to(here) else path.name


class FileReward:
    """A reward of a file: under the file's name, with the hash of its content in its revision."""

    def __init__(self, reward: Reward, name: str, digest: str) -> None:
        own = reward.info.revision
        # What stands before the first hyphen must not change within a run.
        revision = f"{digest}+{own}" if own else f"{digest}-pillow{PIL.__version__}"
        self.info = reward.info.model_copy(update={"name": name, "source": name, "revision": revision})
        self._reward = reward

    def score(self, images: Sequence[Image], prompts: Sequence[str]) -> np.ndarray:
        """As Reward.score. Raises RewardError, whatever the file raises."""
        try:
            return np.asarray(self._reward.score(images, prompts), np.float64)
        except CalibriError:
            raise
        except Exception as error:
            raise RewardError(f"{self.info.name}: {tell(error)}") from error

    def close(self) -> None:
        """As Reward.close."""
        from calibri.rewards.base import close_reward

        close_reward(self._reward)
