"""`ocr`: which words a prompt quotes, how many of them were read, and the real model on drawn text."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

import calibri
from calibri.errors import RewardError
from calibri.prompts import prompt_set
from calibri.rewards.catalog import CATALOG
from calibri.rewards.quoted import quoted_phrases, share_read, split_words
from tests.fresh import run_fresh


def share(prompt: str, *lines: str) -> float:
    return share_read(quoted_phrases(prompt), lines)


# ---- words


@pytest.mark.parametrize(
    ("prompt", "phrases"),
    [
        ('a sign that says "SEASIDE"', ["seaside"]),
        ("a “Grand Opening” and „Grüße aus Köln“", ["grand opening", "grusse aus koln"]),
        ("«Привет, мир!» ‹un› 「新年」『快乐』", ["привет мир", "un", "新年", "快乐"]),
        ("a 'DON'T PANIC' mug, a ‘It’s on’ sign", ["dont panic", "its on"]),
        ('"Ana + Leo", "70% Dark", "24/7"', ["ana leo", "70 dark", "24 7"]),
        ('"ＦＵＬＬ ｗｉｄｔｈ" and "ﬁne"', ["full width", "fine"]),
        ('a "नमस्ते दुनिया" banner', ["नमस्ते दुनिया"]),
        ('"one" and "two three"', ["one", "two three"]),
        ("the dog's bone and the cats' toys", []),
        ('a 12" record beside a 14" tray', []),
        ('"" " " "!?" \'\'', []),
        ('an unfinished "quote', []),
        ("", []),
    ],
)
def test_words_in_quotes_are_found(prompt, phrases):
    assert [" ".join(words) for words in quoted_phrases(prompt)] == phrases


def test_every_text_prompt_of_the_general_set_quotes_words():
    texts = prompt_set("general", "search", category="text")
    assert texts and all(quoted_phrases(prompt) for prompt in texts)


@pytest.mark.parametrize(
    ("prompt", "lines", "expected"),
    [
        ('"GRAND OPENING"', ["Grand", "opening!"], 1),
        ('"GRAND OPENING"', ["opening of a grand hotel"], 1),  # order and other words do not count
        ('"GRAND OPENING"', ["GRANDOPENING"], 1),  # read as one
        ('"OPEN"', ["O P E N"], 1),  # read in pieces
        ('"GRAND OPENING"', ["grand"], 1 / 2),
        ('"sale sale"', ["SALE"], 1 / 2),  # quoted twice, there once
        ('"sale"', ["sale sale sale"], 1),
        ('"a" "b" "c"', ["c a"], 2 / 3),
        ('"OPEN"', ["OPFN"], 3 / 4),  # one letter in four may be wrong
        ('"OPEN"', ["OXFN"], 0),
        ('"OPENING"', ["OPENNING"], 6 / 7),
        ('"CAT"', ["HAT"], 0),  # three letters with one wrong are another word
        ('"art"', ["start"], 0),  # part of another word is not the word
        ('"SLOW DOWN"', ["SLOWD0WN"], 7 / 8),
        ('"221"', ["221"], 1),
        ('"221"', ["227"], 0),
        ("'Café'", ["CAFE"], 1),
        ('"anything"', [], 0),
        ('"anything"', ["", "?!"], 0),
    ],
)
def test_words_that_were_read_are_counted(prompt, lines, expected):
    assert share(prompt, *lines) == pytest.approx(expected)


def test_words_are_matched_as_well_as_they_can_be():
    """What is right counts first; then `mill` must not take `hill`, the only one for `hall`."""
    assert share('"sail sale"', "sail", "salt") == pytest.approx((1 + 3 / 4) / 2)
    assert share('"mill hall"', "hill", "milk") == pytest.approx(3 / 4)


def test_more_of_the_text_never_counts_less():
    words = ["the", "quick", "brown", "fox", "jumps", "over", "lazy", "dogs"]
    shares = [share(f'"{" ".join(words)}"', *words[:n]) for n in range(len(words) + 1)]
    assert shares == pytest.approx(np.linspace(0, 1, len(words) + 1))


def test_a_prompt_of_four_thousand_letters_is_soon_compared():
    words = [f"word{i}" for i in range(600)]
    assert share(f'"{" ".join(words)}"', *words[:300]) >= 0.5


def test_without_quotes_there_is_no_share():
    with pytest.raises(ValueError, match="at least one quoted word"):
        share_read([], ["something"])
    assert split_words("…—!") == []


# ---- the reward without its packages


def test_a_missing_package_is_named_and_the_catalogue_says_what_it_needs(monkeypatch):
    spec = CATALOG["ocr"]
    assert spec.kind == "probability" and spec.fits("FLUX.1-dev") and spec.fits("tabletop")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(RewardError, match=r"ocr needs rapidocr, onnxruntime.*pip install rapidocr"):
        calibri.load_reward("ocr")


def test_a_package_that_cannot_be_used_is_told(monkeypatch):
    import importlib

    from calibri.rewards import ocr

    def fail(name):
        raise ImportError("libGL.so.1: cannot open shared object file")

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(RewardError, match=r"ocr: rapidocr cannot be imported: libGL\.so\.1"):
        ocr._load_reader()


def test_a_release_with_other_models_is_refused(monkeypatch, tmp_path):
    from calibri.rewards import ocr

    other = ModuleType("rapidocr")
    other.__file__ = str(tmp_path / "__init__.py")
    monkeypatch.setitem(sys.modules, "rapidocr", other)
    monkeypatch.setattr(ocr, "version", lambda name: "2.0.0")
    with pytest.raises(RewardError, match=r"that brings PP-OCRv6_det_small\.onnx, got rapidocr 2"):
        ocr._load_reader()


# ---- the real model


@pytest.fixture(scope="module")
def reader():
    for package in CATALOG["ocr"].packages:
        pytest.importorskip(package)
    return calibri.load_reward("ocr")


def draw(*lines: str, size=(512, 512), letters=56, turned=0) -> Image.Image:
    picture = Image.new("RGB", size, (205, 214, 222))
    font = ImageFont.load_default(letters)
    for number, line in enumerate(lines):
        ImageDraw.Draw(picture).text((30, 50 + number * 2 * letters), line, font=font, fill=(25, 25, 40))
    return picture.rotate(turned, expand=True)


def test_drawn_text_is_read(reader):
    asked = [
        ("a wooden sign that says “SEASIDE”", draw("SEASIDE"), 1),
        ('a wooden sign that says "SEASIDE"', draw("HARBOUR"), 0),
        ('a banner, "Grand Opening"', draw("Grand", "Opening"), 1),
        ('a banner, "Grand Opening"', draw("Grand"), 1 / 2),
        ('a mug with "Not before nine"', draw("NOT BEFORE", "NINE"), 1),
        ('a door with "221" in brass', draw("221", size=(128, 128), letters=30), 1),
    ]
    prompts, pictures, expected = zip(*asked)
    scores = reader.score(pictures, prompts)
    assert scores.dtype == np.float64 and scores == pytest.approx(list(expected))
    assert scores[0] == reader.score(pictures[:1], prompts[:1])[0]  # alone or together


def test_a_prompt_without_quotes_gets_a_constant_and_is_told_once(reader, caplog):
    fresh = calibri.load_reward("ocr")
    with caplog.at_level(logging.WARNING):
        scores = fresh.score([draw("SEASIDE"), draw()], ["a wooden sign"] * 2)
    assert scores.tolist() == [0.5, 0.5]
    assert caplog.text.count("prompts without words in quotes") == 1 and "'a wooden sign'" in caplog.text
    fresh.close()
    with pytest.raises(RewardError, match="ocr was closed"):
        fresh.score([draw()], ['a "sign"'])


def test_pictures_of_other_modes_and_sizes_have_scores(reader):
    odd = [draw("SEASIDE").convert(mode) for mode in ("P", "RGBA")]
    odd += [draw("SEASIDE", size=(2050, 600)), Image.new("RGB", (1, 1)), Image.new("RGB", (3000, 2), "red")]
    assert reader.score(odd, ['"seaside"'] * len(odd)).tolist() == [1, 1, 1, 0, 0]
    with pytest.raises(RewardError, match="one prompt for each image"):
        reader.score(odd, [])
    assert reader.score([], []).shape == (0,)


def test_what_it_says_of_itself(reader):
    info = reader.info
    assert (
        info.kind == "probability"
        and info.licence == "Apache-2.0"
        and info.size == pytest.approx(4 * info.parameters, rel=0.02)
    )
    assert info.revision.startswith(info.weights) and "rapidocr3.10" in info.revision


def test_it_needs_neither_torch_nor_a_network(reader, tmp_path):
    """Its models lie in the wheel: every socket is refused here."""
    run_fresh(
        "import socket, sys\n"
        "def refuse(*args, **more): raise OSError('no network')\n"
        "socket.socket.connect = refuse\n"
        "import calibri\n"
        "from PIL import Image\n"
        "reward = calibri.load_reward('ocr', device='cuda')\n"
        "assert reward.score([Image.new('RGB', (64, 64))], ['a \"sign\"']).tolist() == [0.0]\n"
        "assert 'torch' not in sys.modules\n",
        tmp_path,
        *(Path(path) for path in sys.path if path and Path(path).is_dir()),
    )
