"""The words of this field, each with its meaning: the one table behind every tooltip, and behind
docs/README.md.

`explain` marks the words in a sentence. What is marked shows its meaning to a pointer, to the keyboard
and to a finger (glossary.js beside this file). Labels of fields that are such a word are found by that
script itself.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

from markupsafe import Markup, escape

#: Word → what it means. Two words with a comma between mean the same, or are told together.
WORDS: dict[str, str] = {
    "backbone": "a diffusers pipeline whose transformer is calibrated: tabletop, FLUX.1-dev, SD3.5-large, …",
    "site": "one place in the transformer where a branch output can be multiplied",
    "granularity": "how sites are tied together: one scale for each block, layer or gate",
    "scale": "one multiplier; 1.00 leaves the model as it was",
    "member": "one vector of scales, with an output weight and a condition: it sees the prompt (positive) or "
    "no prompt (negative)",
    "calibration": "what is saved: one or more members, and how they were found",
    "ensemble": "a calibration of several members",
    "LoRA": "a small file that changes the backbone's weights; loaded beside it, part of the base, with a "
    "strength",
    "strength in a block": "a scale of a LoRA: by how much more or less it counts in that block",
    "arm": "what is compared: the base, or a calibration, each with its steps, guidance and LoRAs",
    "base": "the model as it came: all scales 1.00",
    "render": "make one picture",
    "seed": "the number that the first noise is drawn from: the same seed gives the same noise",
    "steps": "how often the noise is taken down on the way to a picture: more take longer",
    "guidance": "how much harder than usual the prompt is followed; 1 is none",
    "reward": "scores pictures for prompts, higher is better; a search optimises it",
    "align": "a reward: how well the picture shows what the prompt says",
    "quality": "a reward: how clear and whole the picture looks",
    "keep": "a reward: the share of what the prompt asks for that a detector finds in the picture",
    "judge": "a reward that is only measured, never optimised",
    "facts": "a judge: the same share by another detector: solids, their colours, how many",
    "search, run": "looking for scales, and the folder that one search writes",
    "generation, candidate": "one round of a search, and one vector that it tries",
    "sigma": "how far a search's candidates lie from its centre; it shrinks as the search settles",
    "spread": "a standard deviation. Of the base: of its rewards over prompts, the unit of gains. Of a "
    "scale: how far apart the candidates are in it",
    "axis ratio": "how stretched a search's cloud of candidates is: its longest axis over its shortest; 1 is "
    "a ball",
    "validation": "the point reached against the base, on prompts that the search does not choose by",
    "held-out": "kept aside: prompts that a search never sees before its end, when it is judged on them",
    "verdict": "better, worse or not told apart: where the 95 % interval of the gain on held-out prompts "
    "lies",
    "gain": "how much higher a reward is than the base's on the same prompt and seed, in the mean",
    "importance": "how much worse a search's scores are predicted when one scale's values are shuffled "
    "among its candidates, in shares of the scores' variance",
    "front": "calibrations for several weightings of the rewards, none of which beats another in all",
    "sweep, bypass": "changing one scale at a time and measuring it, and setting it to 0",
    "study, pair, rater, vote": "a comparison by people: two pictures of one prompt and seed, who looks, one "
    "answer",
    "win rate": "the share of pairs in which one arm was liked better; 50 % is no difference",
    "NFE": "evaluations of the transformer for one picture: steps × members that must be evaluated",
}
#: Forms of a word that mean it too.
FORMS = {
    "scales": "scale",
    "members": "member",
    "calibrations": "calibration",
    "rewards": "reward",
    "judges": "judge",
    "arms": "arm",
    "loras": "lora",
    "gains": "gain",
    "candidates": "candidate",
    "generations": "generation",
    "backbones": "backbone",
    "win rates": "win rate",
    "sweeps": "sweep",
    "held-out prompts": "held-out",
}


@cache
def meanings() -> dict[str, str]:
    """Every word and every form of one, in small letters, with its meaning."""
    single = {word: text for words, text in WORDS.items() for word in words.lower().split(", ")}
    return single | {form: single[word] for form, word in FORMS.items()}


def mark(word: str, text: str = "") -> Markup:
    """`text`, or the word itself, with its meaning. Raises KeyError for a word without one."""
    meaning = meanings()[word.lower()]
    return Markup("<span class='term' tabindex='0' data-tip='{}'>{}</span>").format(meaning, text or word)


@cache
def _pattern() -> re.Pattern[str]:
    words = sorted(meanings(), key=len, reverse=True)
    return re.compile(rf"(?<![\w])({'|'.join(map(re.escape, words))})(?![\w])", re.IGNORECASE)


def explain(text: object, only: str = "") -> Markup:
    """A text as HTML with each word marked where it comes first. HTML in it stays as it is. `only`: these
    words, with commas between."""
    wanted, seen = {word.strip().lower() for word in only.split(",") if word.strip()}, set()

    def replace(found: re.Match[str]) -> str:
        word = found[0].lower()
        meaning = meanings()[word]
        if meaning in seen or (wanted and word not in wanted):
            return found[0]
        seen.add(meaning)
        return str(mark(word, found[0]))

    parts = re.split(r"(<[^>]*>)", str(escape(text)))  # odd ones are tags
    return Markup("".join(part if i % 2 else _pattern().sub(replace, part) for i, part in enumerate(parts)))


def list_words(*words: str, before: str = "In these charts: ") -> str:
    """A small grey line with words to point at."""
    listed = Markup(" · ").join(mark(word) for word in words)
    return str(Markup("<div class='aside terms'>{}{}</div>").format(before, listed))


@cache
def script() -> str:
    """The tooltip's script, with the words in it."""
    words = json.dumps(meanings(), ensure_ascii=False).replace("<", "\\u003c")
    text = Path(__file__).with_name("glossary.js").read_text(encoding="utf-8")
    return f"window.calibriWords = {words};\n{text}"
