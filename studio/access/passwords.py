"""Passwords: what is compared with what was typed, hashes for a file, and the file.

A line of the file is `NAME:scrypt$N$r$p$SALT$HASH`, with SALT and HASH in base64; scrypt is RFC 7914. Names
have no colon; passwords may hold anything.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import getpass
import hashlib
import hmac
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from calibri.errors import CalibriError
from studio.settings import Settings

N, R, P = 2**15, 8, 3  # OWASP's cheat sheet on password storage: 32 MB of memory for each try
MOST_MEMORY = 256 * 2**20  # bytes that a line of a file may ask for
SALT_BYTES, HASH_BYTES = 16, 32
LONGEST_PASSWORD = 1024  # characters


class PasswordError(CalibriError):
    """An account or a file of accounts that cannot be used. The text repeats no password and no hash."""


@dataclass(frozen=True)
class Hash:
    """A password's hash, and what it was made with."""

    n: int
    r: int
    p: int
    salt: bytes
    value: bytes

    @classmethod
    def make(cls, password: str, n: int = N) -> Hash:
        salt = secrets.token_bytes(SALT_BYTES)
        return cls(n, R, P, salt, _scrypt(password, n, R, P, salt))

    @classmethod
    def read(cls, text: str) -> Hash:
        """Raises ValueError for what is no hash of ours, or costs more than a try may cost."""
        kind, *numbers, salt, value = text.split("$")
        n, r, p = map(int, numbers)
        if kind != "scrypt" or not 2 <= n * r * p <= MOST_MEMORY // 128 or n & (n - 1) or min(n, r, p) < 1:
            raise ValueError("expected scrypt with N a power of two")
        made = cls(n, r, p, base64.b64decode(salt, validate=True), base64.b64decode(value, validate=True))
        if len(made.value) != HASH_BYTES or len(made.salt) < SALT_BYTES:
            raise ValueError("expected a salt of 16 bytes and a hash of 32")
        return made

    @property
    def cost(self) -> int:
        return self.n * self.r * self.p

    def fits(self, password: str) -> bool:
        return hmac.compare_digest(_scrypt(password, self.n, self.r, self.p, self.salt), self.value)

    def __str__(self) -> str:
        salt, value = (base64.b64encode(part).decode() for part in (self.salt, self.value))
        return f"scrypt${self.n}${self.r}${self.p}${salt}${value}"


def _scrypt(password: str, n: int, r: int, p: int, salt: bytes) -> bytes:
    typed = password.encode("utf-8", "surrogatepass")
    return hashlib.scrypt(typed, salt=salt, n=n, r=r, p=p, maxmem=2 * MOST_MEMORY, dklen=HASH_BYTES)


class Accounts:
    """Who may sign in. Whether a name is known cannot be told from the time that `check` takes."""

    def __init__(self, plain: Mapping[str, str], hashed: Mapping[str, Hash]) -> None:
        self._key = secrets.token_bytes(32)
        self._plain = {name: self._digest(password) for name, password in plain.items()}
        self._hashed = dict(hashed)
        dearest = max(self._hashed.values(), key=lambda h: h.cost, default=None)
        self._other = dearest and Hash(dearest.n, dearest.r, dearest.p, secrets.token_bytes(16), bytes(32))

    @classmethod
    def read(cls, settings: Settings) -> Accounts:
        """Those of `auth` and of `auth_file`. Raises PasswordError."""
        try:
            plain = dict(settings.accounts)
        except ValueError as error:
            raise PasswordError(str(error)) from None
        hashed = read_file(Path(settings.auth_file)) if settings.auth_file else {}
        if both := sorted(set(plain) & set(hashed)):
            raise PasswordError(f"The account {both[0]} stands in --auth and in the file of --auth-file.")
        return cls(plain, hashed)

    @property
    def names(self) -> list[str]:
        return [*self._plain, *self._hashed]

    def check(self, name: str, password: str) -> bool:
        """Whether this is the password of this account: at most one hash, always of the same cost."""
        password = password[: LONGEST_PASSWORD + 1]
        known = self._hashed.get(name, self._other)
        fits = known.fits(password) if known is not None else False
        right = self._plain.get(name, b"")
        same = hmac.compare_digest(self._digest(password), right or bytes(32))
        return (name in self._hashed and fits) or (bool(right) and same)

    def _digest(self, password: str) -> bytes:
        return hmac.digest(self._key, password.encode("utf-8", "surrogatepass"), "sha256")


def read_file(path: Path) -> dict[str, Hash]:
    """name → hash, from lines of NAME:HASH. Empty lines and those that begin with # do not count.

    Raises PasswordError that names the line.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
        raise PasswordError(f"--auth-file: expected a readable file, got {path.name}: {why}.") from None
    found: dict[str, Hash] = {}
    for number, line in enumerate(map(str.strip, lines), 1):
        if not line or line.startswith("#"):
            continue
        name, _, text = line.partition(":")
        try:
            made = Hash.read(text)
            if not name or name in found:
                raise ValueError("expected every name once")
        except (ValueError, binascii.Error):
            raise PasswordError(
                f"--auth-file: line {number} of {path.name}: expected a new name and a hash, as "
                "`calibri studio hash-password NAME` prints them."
            ) from None
        found[name] = made
    if not found:
        raise PasswordError(f"--auth-file: expected accounts in {path.name}, got none.")
    return found


def make_line(name: str, password: str) -> str:
    """The line of this account for the file. Raises PasswordError for a name or a password that cannot be."""
    if not name or name != name.strip() or name.startswith("#") or any(c in name for c in ":\r\n"):
        raise PasswordError("Expected a name without colons and without spaces at its ends.")
    if not 1 <= len(password) <= LONGEST_PASSWORD:
        raise PasswordError(f"Expected a password of 1 to {LONGEST_PASSWORD} characters.")
    return f"{name}:{Hash.make(password)}"


def add_command(parser: argparse.ArgumentParser) -> None:
    """The arguments of `calibri studio hash-password`."""
    parser.add_argument("name", metavar="NAME", help="of the account")
    parser.set_defaults(run=print_line)


def print_line(args: argparse.Namespace) -> int:
    """Ask for a password and print its line. Where nobody types, the first line of the input is taken."""
    if sys.stdin.isatty():
        password = getpass.getpass(f"Password of {args.name}: ")
        if getpass.getpass("Once more: ") != password:
            raise PasswordError("The two passwords differ.")
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    print(make_line(args.name, password))
    return 0
