"""Files that appear whole or not at all, and what others wrote, read within limits.

Whatever is read here may come from anybody: bytes, levels and digits are counted before anything is built.
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from io import BufferedReader
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from calibri.errors import CalibriError

LARGEST_JSON = 32 * 2**20  # bytes of a file
LARGEST_HEADER = 100 * 2**20  # bytes, of a safetensors file
DEEPEST_JSON = 64  # levels; a calibration with its provenance has about eight
LONGEST_INTEGER = 400  # digits; the largest float has 309
_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*(?:"|\Z)|[\[{\]}]', re.DOTALL)  # texts are skipped as a whole

T = TypeVar("T")


@contextmanager
def replacing(path: str | Path, *, durable: bool = False) -> Iterator[Path]:
    """A path to write to, in the same folder, that becomes `path` at the end of the `with`.

    Where the block fails, what stood at `path` stays and nothing is left beside it. Missing folders are made.
    `durable`: what was written is on the disk afterwards, also if the machine loses power. Raises OSError.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name[:100]}.{secrets.token_hex(6)}.part")
    try:
        yield part
        if durable:
            sync(part)
        os.replace(part, path)
        if durable and os.name == "posix":
            sync(path.parent)
    finally:
        part.unlink(missing_ok=True)


def write_whole(path: str | Path, content: str | bytes, *, durable: bool = False) -> None:
    """Writes `content` (texts as UTF-8) as `replacing` does. Raises OSError."""
    with replacing(path, durable=durable) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)


def read_limited(path: str | Path, most: int, error: type[CalibriError]) -> bytes:
    """The bytes of a file that has `most` of them at most.

    Raises `error`, without the path, for a larger one and for what is no file: a pipe never makes it wait.
    """
    try:
        with open_file(path, error) as file:
            if (size := os.fstat(file.fileno()).st_size) > most:
                raise error(f"expected at most {most} bytes, got {size}")
            data = file.read(size + 1)
    except (OSError, ValueError) as problem:
        raise error(explain(problem)) from problem
    if len(data) > most:
        raise error(f"expected at most {most} bytes, got more")
    return data


def open_file(path: str | Path, error: type[CalibriError]) -> BufferedReader:
    """A file to read. Raises OSError, and `error` for a folder, a pipe or a device: nothing is waited for."""
    _check_is_file(os.stat(path).st_mode, error)
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    file = os.fdopen(descriptor, "rb")
    try:
        _check_is_file(os.fstat(file.fileno()).st_mode, error)  # another one may lie there by now
    except CalibriError:
        file.close()
        raise
    return file


def _check_is_file(mode: int, error: type[CalibriError]) -> None:
    if not stat.S_ISREG(mode):
        raise error(f"expected a file, got {_KINDS.get(stat.S_IFMT(mode), 'a device')}")


def read_text(path: str | Path, most: int, error: type[CalibriError]) -> str:
    """The text in such a file, which is UTF-8, with or without a byte-order mark. Raises `error`, without the
    path."""
    try:
        return read_limited(path, most, error).decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise error("not a text file") from problem


def load_json(text: str, *, deepest: int = DEEPEST_JSON) -> Any:
    """The value of a JSON text. Raises ValueError: json.JSONDecodeError where it is none, else in words.

    Levels and digits are counted before anything is built.
    """
    if text.count("[") + text.count("{") > deepest:
        _check_depth(text, deepest)
    return json.loads(text, parse_int=_read_integer)


def _check_depth(text: str, deepest: int) -> None:
    level = 0
    for found in _BRACKETS.finditer(text):
        mark = text[found.start()]
        if mark in "[{":
            level += 1
            if level > deepest:
                raise ValueError(f"expected JSON of at most {deepest} levels, got some nested too deep")
        elif mark in "]}":
            level -= 1


def _read_integer(digits: str) -> int:
    if (number := len(digits.lstrip("-"))) > LONGEST_INTEGER:
        raise ValueError(f"expected an integer of at most {LONGEST_INTEGER} digits, got {number}")
    return int(digits)


def read_object(path: Path, error: type[CalibriError]) -> dict[str, Any]:
    """The JSON object in a file. Raises `error` where it cannot be read or holds something else."""
    try:
        content = load_json(read_text(path, LARGEST_JSON, error))
    except (CalibriError, ValueError) as problem:
        raise error(f"{path}: {problem}") from problem
    if not isinstance(content, dict):
        raise error(f"{path}: expected a JSON object, got {type(content).__name__}")
    return content


def read_tensor_header(path: Path) -> dict[str, Any]:
    """The header of a safetensors file, of which nothing else is read: name of a tensor → its dtype, shape
    and data_offsets. Raises OSError, and ValueError for another file or one that is cut off."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if not 2 <= size <= LARGEST_HEADER:
            raise ValueError(f"it is no safetensors file: its header is {size} bytes long")
        text = file.read(size)
    if len(text) < size:
        raise ValueError("its header is cut off")
    header = json.loads(text)
    if not isinstance(header, dict):
        raise ValueError("its header is no object")
    header.pop("__metadata__", None)
    try:
        end = max((int(entry["data_offsets"][1]) for entry in header.values()), default=0)
    except (KeyError, TypeError, IndexError):
        raise ValueError("its header tells of something else than tensors") from None
    if (whole := path.stat().st_size) < 8 + size + end:
        raise ValueError(f"it is cut off: expected {8 + size + end} bytes, got {whole}")
    return header


def cache_folder(name: str) -> Path:
    """Where what can be made again is kept: in `$CALIBRI_CACHE`, else in `calibri` of the user's cache."""
    own = os.environ.get("CALIBRI_CACHE", "").strip()
    usual = Path(os.environ.get("XDG_CACHE_HOME", "").strip() or Path.home() / ".cache") / "calibri"
    return (Path(own).expanduser() if own else usual).absolute() / name


class Unreadable(NamedTuple):
    """What lies in a folder and cannot be read. `name`: its own, without those of the folders above; `why`:
    in words."""

    name: str
    why: str

    def __str__(self) -> str:
        return f"{self.name}: {self.why}"


class Listing(NamedTuple, Generic[T]):
    """What a folder holds: name → what was read, in order of the names, and what could not be read."""

    found: dict[str, T]
    unreadable: tuple[Unreadable, ...]


def read_folder(folder: Path, wanted: str, read: Callable[[Path], T | None]) -> Listing[T]:
    """Read every entry of a folder, so that a bad one never hides the others.

    `wanted`: `*.json` for entries of such names, or `*/config.json` for those that hold such a file, as the
    command line writes it. `read` gets the path of the entry itself; None leaves it out. What it raises
    becomes words. Hidden entries and a folder that is missing are nothing.
    """
    pattern, _, inner = wanted.partition("/")
    found: dict[str, T] = {}
    unreadable = []
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return Listing({}, ())
    except OSError as problem:
        return Listing({}, (Unreadable(folder.name, explain(problem)),))
    for name in names:
        path = folder / name
        if name.startswith(".") or not fnmatch(name, pattern):
            continue
        try:
            if inner and not _holds(path, inner):
                continue
            if (made := read(path)) is not None:
                found[name] = made
        except FileNotFoundError:
            if os.path.lexists(path / inner) or path.is_symlink():
                unreadable.append(Unreadable(name, "a link to nothing"))
            # else another program removed it meanwhile
        except (CalibriError, OSError, ValueError, TypeError, LookupError, RecursionError) as problem:
            unreadable.append(Unreadable(name, explain(problem, path)))
    return Listing(found, tuple(unreadable))


def _holds(folder: Path, name: str) -> bool:
    """Whether there is such an entry, whatever it is. Raises OSError where that cannot be known."""
    os.stat(folder)  # FileNotFoundError for a link to nothing
    try:
        os.lstat(folder / name)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def explain(problem: Exception, path: Path | None = None) -> str:
    """Why something cannot be read, without paths."""
    if isinstance(problem, OSError):
        return "a link that leads to itself" if problem.errno == errno.ELOOP else problem.strerror or "broken"
    words = str(problem) if isinstance(problem, CalibriError | ValueError) else f"not understood: {problem!r}"
    for known in (path, path.parent) if path is not None else ():
        words = words.replace(f"{known}: ", "").replace(f"{known}/", "")
    return words


def sync(path: Path) -> None:
    """Waits until a file or a folder's list of files is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
