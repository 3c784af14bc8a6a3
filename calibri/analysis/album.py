"""The pictures of a folder, each with its prompt."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from calibri.errors import PromptError, RenderError, RewardError
from calibri.prompts.decoding import decode
from calibri.prompts.found import PROMPT_NAMES, find_name, plain_name
from calibri.prompts.tables import split_rows

if TYPE_CHECKING:
    from PIL.Image import Image

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
FILE_NAMES = ("file", "filename", "image", "imagename", "picture", "path", "name", "imagepath", "img")


@dataclass(frozen=True)
class Shown:
    """A picture's file and the prompt that it was made for."""

    path: Path
    prompt: str

    def open(self) -> Image:
        """The picture, RGB. Raises RewardError for a file that is none."""
        from PIL import Image

        from calibri.rewards.pictures import as_rgb

        try:
            with Image.open(self.path) as image:
                image.load()
                return as_rgb(image)
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            raise RewardError(f"{self.path.name}: expected a picture, got a file that is none") from error


def find_pictures(folder: Path, prompts: Path | None = None) -> list[Shown]:
    """The pictures in a folder, by name, with their prompts.

    `prompts`: a JSON object of file names and prompts, a table with a column for each, or a text with one
    line for each picture in the order of names. Without it a prompt comes from `NAME.txt` beside the picture,
    else from the settings in its PNG, as this program writes them. Raises RewardError where there are no
    pictures or one has no prompt, PromptError for a file of prompts that does not fit.
    """
    if not folder.is_dir():
        raise RewardError(f"expected a folder with pictures, got {folder}")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in ENDINGS and path.is_file())
    if not paths:
        raise RewardError(f"{folder}: expected pictures ({', '.join(ENDINGS)}), got none")
    given = None if prompts is None else _read_prompts(prompts, paths)
    return [Shown(path, given[path.name] if given is not None else _find_prompt(path)) for path in paths]


def _find_prompt(path: Path) -> str:
    from calibri.sampling.png import read_settings

    beside = path.with_suffix(".txt")
    try:
        if beside.is_file():
            return " ".join(decode(beside.read_bytes(), beside.name)[0].split())
        prompt = read_settings(path).get("prompt")
    except (OSError, RenderError):
        prompt = None
    if not isinstance(prompt, str):
        raise RewardError(
            f"{path.name}: expected its prompt in {beside.name} or in the settings inside the PNG, got "
            "neither; give a file with prompts"
        )
    return prompt


def _read_prompts(path: Path, pictures: list[Path]) -> dict[str, str]:
    """File name → prompt of every picture."""
    try:
        text, _ = decode(path.read_bytes(), path.name)
    except OSError as error:
        raise PromptError(f"{path.name}: {error.strerror or error}") from error
    found = _read_object(text) if text.lstrip().startswith("{") else _read_table(text)
    if found is None:
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        if len(lines) != len(pictures):
            raise PromptError(
                f"{path.name}: expected one line for each of {len(pictures)} pictures, got {len(lines)}"
            )
        return dict(zip((picture.name for picture in pictures), lines))
    named = {Path(name).name: prompt for name, prompt in found.items()}
    missing = [picture.name for picture in pictures if picture.name not in named]
    if missing:
        raise PromptError(f"{path.name}: expected a prompt for every picture, got none for {missing[0]}")
    return named


def _read_object(text: str) -> dict[str, str] | None:
    try:
        content = json.loads(text)
    except ValueError:
        return None
    if not isinstance(content, dict) or not all(isinstance(value, str) for value in content.values()):
        return None
    return content


def _read_table(text: str) -> dict[str, str] | None:
    """None for what is no table with a column of files and one of prompts."""
    for separator in ",\t;":
        try:
            rows = [row for _, row in split_rows(text, separator)]
        except csv.Error:
            continue
        names = [name.strip() for name in rows[0]] if rows else []
        of_prompt, of_file = find_name(names, PROMPT_NAMES), find_name(names, FILE_NAMES)
        if of_prompt and of_file and plain_name(of_prompt) != plain_name(of_file):
            at, beside = names.index(of_file), names.index(of_prompt)
            return {row[at].strip(): row[beside].strip() for row in rows[1:] if len(row) > max(at, beside)}
    return None
