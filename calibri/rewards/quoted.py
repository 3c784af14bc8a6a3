"""The words that a prompt puts in quotes, and how many of them were read in a picture. No model.

Words are compared by their letters and digits alone: case, accents of Latin, Greek and Cyrillic letters,
width and punctuation do not count. `Ana + Leo` is two words, `don't` is one.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate, pairwise

import numpy as np

LETTERS_A_MISS = 4  # one wrong letter in so many is still this word

_QUOTES = re.compile(
    r"""
    “([^”]+)”                                 # English; an apostrophe may stand inside
    | „([^“”]+)[“”] | «([^»]+)» | ‹([^›]+)›   # German, French and Russian
    | 「([^」]+)」 | 『([^』]+)』
    | (?<!\w)"(?=\S)([^"]+?)"                 # not the inches of a 12" record
    | (?<!\w)'(?=\S)(.+?)(?<=\S)'(?!\w)       # not the apostrophe of a dog's bone
    | (?<!\w)‘(.+?)’(?!\w)
    """,
    re.VERBOSE | re.DOTALL,
)
_ACCENTS = re.compile("[\u0300-\u036f]")
_INSIDE = re.compile(r"(?<=\w)['’ʼ`´](?=\w)")  # one word: don't
_BETWEEN = re.compile(r"[\W_]+")


def split_words(text: str) -> list[str]:
    """The words of a text, normalised, in order; what has neither letters nor digits is none."""
    plain = _ACCENTS.sub("", unicodedata.normalize("NFKD", text))
    plain = unicodedata.normalize("NFKC", plain).casefold()
    # Vowel signs of Indic scripts are no \w, but they are letters of a word.
    kept = "".join("x" if unicodedata.category(c) in ("Mn", "Mc") else c for c in plain)
    if kept == plain:
        return [word for word in _BETWEEN.split(_INSIDE.sub("", plain)) if word]
    ends = [match.span() for match in re.finditer(r"[^\W_]+", kept)]
    return [plain[start:end] for start, end in ends]


def quoted_phrases(prompt: str) -> list[list[str]]:
    """The quoted parts of a prompt that hold words, each as its words.

    Quotes are "…", “…”, '…', ‘…’, „…“, «…», ‹…›, 「…」 and 『…』.
    """
    parts = ("".join(filter(None, match.groups())) for match in _QUOTES.finditer(prompt))
    return [words for part in parts if (words := split_words(part))]


def share_read(phrases: Sequence[Sequence[str]], lines: Sequence[str]) -> float:
    """How much of the quoted words stands in the lines that were read, from 0 to 1.

    Each word that was read stands for one quoted word at most, so a word that is quoted twice must be there
    twice. Order, line breaks and other text do not count. Of those that are left over, a word that is read
    with a few wrong letters, one in four at most, counts for the share of its letters that are right. Words
    that were read as one are taken apart, and one that was read in pieces is put together.

    Raises ValueError where nothing is quoted.
    """
    wanted = Counter(word for phrase in phrases for word in phrase)
    if not wanted:
        raise ValueError("expected at least one quoted word, got none")
    found: Counter[str] = Counter()
    for line in lines:
        for read in _join(split_words(line), set(wanted)):
            found.update([read] if read in wanted else _cut(read, phrases))
    exact = (wanted & found).total()
    missing, others = list((wanted - found).elements()), list((found - wanted).elements())
    near = 0.0
    if missing and others:
        from scipy.optimize import linear_sum_assignment

        credit = np.array([[_credit(word, read) for read in others] for word in missing])
        near = float(credit[linear_sum_assignment(credit, maximize=True)].sum())
    return (exact + near) / wanted.total()


def _credit(word: str, read: str) -> float:
    """The share of a word's letters that were read right; 0 where it is rather another word."""
    most = len(word) // LETTERS_A_MISS
    if word == read:
        return 1.0
    if not most or abs(len(word) - len(read)) > most:
        return 0.0
    missed = _distances(word, read)[-1][-1]
    return 1 - missed / len(word) if missed <= most else 0.0


def _join(words: list[str], wanted: set[str]) -> list[str]:
    """Words of one line, with neighbours that make up a wanted word together as that word: S A L E."""
    joined: list[str] = []
    at, longest = 0, max(map(len, wanted))
    while at < len(words):
        ends = [at + 1]
        for end in range(at + 2, len(words) + 1):
            together = "".join(words[at:end])
            if len(together) > longest:
                break
            if together in wanted:
                ends.append(end)
        joined.append("".join(words[at : ends[-1]]))
        at = ends[-1]
    return joined


def _cut(read: str, phrases: Sequence[Sequence[str]]) -> list[str]:
    """A word as it was read, or the parts of it that stand for neighbours of a phrase: GRANDOPENING."""
    best, parts = max((_credit(word, read) for phrase in phrases for word in phrase), default=0.0), [read]
    for phrase in phrases:
        for first in range(len(phrase)):
            for end in range(first + 2, len(phrase) + 1):
                words = list(phrase[first:end])
                together = "".join(words)
                if len(together) > 2 * len(read):
                    break
                credit = _credit(together, read)
                if credit > best:
                    best, parts = credit, _cut_at(read, words)
    return parts


def _cut_at(read: str, words: Sequence[str]) -> list[str]:
    """`read` in as many parts as there are words, each beside the letters of its word."""
    table = _distances("".join(words), read)
    ends = set(accumulate(map(len, words[:-1])))
    cuts: list[tuple[int, int]] = []
    i, j = len(table) - 1, len(read)
    while i > 0:
        if i in ends and i not in dict(cuts):
            cuts.append((i, j))
        if j > 0 and table[i][j] == table[i][j - 1] + 1:
            j -= 1
        elif table[i][j] == table[i - 1][j] + 1:
            i -= 1
        else:
            i, j = i - 1, j - 1
    places = [0, *sorted(place for _, place in cuts), len(read)]
    return [part for start, end in pairwise(places) if (part := read[start:end])]


@lru_cache(maxsize=4096)
def _distances(word: str, read: str) -> tuple[tuple[int, ...], ...]:
    """Edit distances (Levenshtein 1966) of all beginnings: row i, column j of word[:i] and read[:j]."""
    rows = [tuple(range(len(read) + 1))]
    for i, letter in enumerate(word, 1):
        row = [i]
        for j, other in enumerate(read, 1):
            row.append(min(rows[-1][j] + 1, row[-1] + 1, rows[-1][j - 1] + (letter != other)))
        rows.append(tuple(row))
    return tuple(rows)
