"""The tables of docs/ that follow from the code: `python -m tests.docs_tables` writes them anew.

In a page such a table stands between `<!-- table: NAME -->` and `<!-- /table -->`. NAME is one of TABLES,
whose function builds its header and its rows. tests/test_docs.py compares what is written with what is built.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import re
import tomllib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from calibri import commands
from calibri.calibration.artifact import Calibration
from calibri.cli import parser as calibri_parser
from calibri.preference import Thresholds
from calibri.prompts import prompt_categories, prompt_set
from calibri.rewards.catalog import CATALOG as REWARDS
from calibri.search.config import RewardTerm, SearchConfig
from calibri.search.pictures import picture_words
from calibri.search.presets import MANY
from calibri.search.presets import PRESETS as SEARCH_PRESETS
from studio.settings import OPTIONS, default_of
from studio.shell.api import endpoints as add_endpoints
from studio.studies.pages.results import FILES
from studio.studies.protocol import PRESETS as PROTOCOL_PRESETS
from studio.ui.glossary import WORDS
from tests import docs_of_backbones
from tests.docs_limits import demo_limits
from tests.docs_search import reward_odds
from tests.docs_table import Row, Table, code, percent, written
from tests.house import build_table

ROOT = Path(__file__).resolve().parents[1]
# study and rewards, whose actions have options, have tables of their own
COMMANDS = [
    module.name
    for module in pkgutil.iter_modules(commands.__path__)
    if hasattr(importlib.import_module(f"{commands.__name__}.{module.name}"), "add_options")
]
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/*.md")])
MARKED = re.compile(r"(<!-- table: ([\w -]+) -->\n)(.*?)(<!-- /table -->)", re.DOTALL)
#: What options mean that say nothing of themselves.
UNSAID = {
    "prompt": "what the picture should show",
    "file": "a calibration, or a checkpoint of the paper's code",
    "study": "id or name",
    "name": "raters read it: keep the arms out of it",
    "path": "of the copy",
    "folder": "of the snapshot",
    "out": "file to write",
    "backbone": "name, folder or hub id",
    "granularity": "one scale for each block, layer or gate",
    "guidance": "classifier-free guidance",
    "seed": "of everything that is drawn",
    "batch_size": "pictures rendered at once",
    "device": "auto, cpu, cuda, cuda:1, mps",
    "dtype": "auto, float32, bfloat16, float16",
    "preset": "chooses what is not given",
    "objective": "mean differences of the rewards from the base's, or win rates against it",
    "optimizer": "CMA-ES, or Adam on mirrored candidates",
    "convergence": "when a search stops by itself: validation stops rising, the paper's rule, never",
    "validation_pairs": "pairs on which the point is held against the base on the way",
    "held_out_pairs": "pairs of the final judgement; 0 leaves it out",
}


# settings and commands


def settings() -> Table:
    """The options of app.py."""
    rows = []
    for option in OPTIONS:
        default = default_of(option.field)
        shown = "off" if default is False else code(default) if default != "" else ""
        flag = f"{option.flag} {option.metavar}" if option.metavar else option.flag
        rows.append((code(flag), code(option.variable), shown, option.help))
    return ("option", "environment", "default", "what it does"), rows


def subparsers_of(parser: argparse.ArgumentParser) -> dict[str, tuple[str, argparse.ArgumentParser]]:
    """name → (help, parser) of every subcommand."""
    [found] = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    helps = {choice.dest: choice.help or "" for choice in found._choices_actions}
    return {name: (helps.get(name, ""), sub) for name, sub in found.choices.items()}


def subparser(*names: str) -> argparse.ArgumentParser:
    parser = calibri_parser()
    for name in names:
        parser = subparsers_of(parser)[name][1]
    return parser


def commands() -> Table:
    found = subparsers_of(calibri_parser())
    return ("command", "what it does"), [(code(f"calibri {n}"), h) for n, (h, _) in sorted(found.items())]


def argument_words(action: argparse.Action) -> str:
    """An option as a person types it."""
    kinds = {int: "N", float: "NUMBER"}
    value = action.metavar or (action.choices and "|".join(map(str, action.choices)))
    value = value or kinds.get(action.type, action.dest.upper())  # type: ignore[call-overload]
    if not action.option_strings:
        return str(action.metavar or action.dest).upper()
    if action.nargs == 0:
        return action.option_strings[-1]
    return f"{action.option_strings[-1]} " + (f"[{value}]" if action.nargs == "?" else str(value))


def argument_meaning(action: argparse.Action) -> str:
    words, default = action.help or UNSAID.get(action.dest, ""), action.default
    told = default in (None, False, "", []) or "default" in words or action.nargs == 0
    return words if told else f"{words} (default {default})".strip()


def arguments_of(parser: argparse.ArgumentParser) -> Iterator[Row]:
    """(option, what it does), with a row of its own for the title of a group."""
    for group in parser._action_groups:
        actions = [
            a
            for a in group._group_actions
            if not isinstance(a, argparse._HelpAction | argparse._SubParsersAction)
        ]
        own = group.title not in ("positional arguments", "options")
        if actions and own:
            yield f"**{str(group.title).capitalize()}**", ""
        for action in actions:
            yield code(argument_words(action)), argument_meaning(action)


def options(*names: str) -> Table:
    return ("option", "what it does"), list(arguments_of(subparser(*names)))


def study_actions() -> Table:
    """Actions of `calibri study` with their options; those of `create` have a table of their own."""
    rows = []
    for name, (words, parser) in subparsers_of(subparser("study")).items():
        found = [cell for cell, _ in arguments_of(parser)] if name != "create" else ["see below"]
        rows.append((code(name), words, ", ".join(found)))
    return ("action", "what it does", "arguments"), rows


def reward_actions() -> Table:
    rows = []
    for name, (words, parser) in subparsers_of(subparser("rewards")).items():
        rows.append((code(name), words, ", ".join(c for c, _ in arguments_of(parser) if c[:2] != "**")))
    return ("action", "what it does", "arguments"), rows


def extras() -> Table:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = project["optional-dependencies"].items()
    rows = [(code(name), ", ".join(code(p.split(";")[0].strip()) for p in ps)) for name, ps in found]
    return ("extra", "installs"), [row for row in rows if row[0] != code("dev")]


# the API


def endpoints() -> Table:
    """The endpoints for programs, as Gradio tells them."""
    rows = []
    for name, told in endpoint_info().items():
        given = [
            f"{p['parameter_name']}={p['parameter_default']!r}"
            if p["parameter_has_default"]
            else p["parameter_name"]
            for p in told["parameters"]
        ]
        back = [
            r["label"].lower() if r["component"] != "Api" else r["python_type"]["type"]
            for r in told["returns"]
        ]
        words = " ".join(told["description"].split())
        rows.append((code(name), code(", ".join(given)) if given else "", ", ".join(back), words))
    return ("endpoint", "arguments", "returns", "what it does"), rows


def endpoint_info() -> dict[str, Any]:
    """/name → parameters, returns and description, without a server or a model."""
    import gradio as gr

    with gr.Blocks(analytics_enabled=False) as app:
        add_endpoints(None, None)  # type: ignore[arg-type]  # only calls use the core
    return app.get_api_info()["named_endpoints"]


# calibrations, rewards, searches


def glossary() -> Table:
    return ("word", "means"), list(WORDS.items())


def shipped() -> Table:
    rows = []
    for path in sorted((ROOT / "assets" / "calibrations").glob("*.json")):
        found = Calibration.load(path)
        members = " + ".join(f"{m.condition} × {m.weight:.2f}" for m in found.members).replace("-", "−")
        numbers = (found.granularity, str(len(found.names)), members)
        rows.append((f"[{found.title}](../{path.relative_to(ROOT)})", *numbers))
    return ("calibration", "granularity", "scales", "members and weights"), rows


def rewards() -> Table:
    found = [spec for spec in REWARDS.values() if spec.backbone == "tabletop"]
    return ("name", "role", "what it measures"), [(code(s.name), s.role, s.summary) for s in found]


def published_rewards() -> Table:
    rows = []
    for spec in [
        spec for spec in REWARDS.values() if spec.backbone is None and (spec.source or spec.offered)
    ]:
        memory = [f"{n / 1e9:.1f} GB {dtype}" for dtype, n in spec.memory.items()]
        needs = ", ".join([*memory, *map(code, spec.packages)])
        millions = spec.parameters / 1e6
        count = f"{millions:.0f} M" if millions < 1000 else f"{millions / 1000:.3g} B"
        source = code(spec.source) if spec.source else "in its package"
        rows.append((code(spec.name), spec.summary, spec.kind, source, spec.licence, count, needs))
    return ("name", "what it measures", "kind", "weights", "licence", "parameters", "needs"), rows


def prompt_counts() -> Table:
    """The prompts of the set `general`: how many of each category are in each split."""
    names = ("search", "validation", "held-out")
    rows = []
    for category in prompt_categories():
        numbers = [len(prompt_set("general", split, category)) for split in names]
        rows.append((category, *map(str, numbers), prompt_set("general", "search", category)[0][:60]))
    totals = [len(prompt_set("general", split)) for split in names]
    rows = [(*row[:-1], row[-1] + ("…" if len(row[-1]) == 60 else "")) for row in rows]
    return ("category", *names, "for example"), [*rows, ("all", *map(str, totals), "")]


def search_presets() -> Table:
    rows = []
    rest = [(name, None) for name in SEARCH_PRESETS if name != "default"]
    for name, numbers in (("default", None), ("default", MANY), *rest):
        shown = code(name) + (f" from {numbers} searched numbers on" if numbers else "")
        c = SearchConfig.make(name, numbers=numbers, rewards=(RewardTerm(name="any"),), prompts=("any",))
        race = f"{c.bucket}, {c.race} for all" if c.race else str(c.bucket)
        bounds = "{:g} to {:g}".format(*c.bounds).replace("-", "−")
        drawn = (f"{c.sigma0:g}", race, str(c.pool or "new ones"), percent(c.mirrors), bounds)
        rows.append((shown, c.optimizer, picture_words(name), *drawn, c.convergence, c.point))
    head = ("pictures", "first step", "pairs a generation", "of a pool of", "mirrored", "bounds on tabletop")
    return ("preset", "optimiser", *head, "stops by", "keeps"), rows


# studies and hosting


def protocols() -> Table:
    rows = []
    for name, protocol in PROTOCOL_PRESETS.items():
        asks = " ".join(q.text for q in protocol.questions)
        stops = (
            f"at {protocol.votes_per_pair} raters a pair" if protocol.votes_per_pair else "when you close it"
        )
        checks = f"{percent(protocol.gold_rate)} gold, {percent(protocol.repeat_rate)} repeats"
        rows.append((code(name), asks, stops, str(protocol.cap), checks))
    return ("preset", "asks", "stops", "most pairs a rater", "checks"), rows


def flags() -> Table:
    t = Thresholds()
    rows = [
        ("favours a side", f"exact binomial p below {t.side_p:g}, from {t.side_least} votes for a side on"),
        ("same side in a row", f"{t.streak} times"),
        ("gold pairs", f"fewer than {percent(t.gold_rate)} right, from {t.gold_least} on"),
        ("repeats", f"fewer than {percent(t.repeat_rate)} answered as before, from {t.repeat_least} on"),
        ("too fast", f"median below {t.fast_ms} ms, from {t.fast_least} answers on"),
    ]
    return ("flag", "when"), rows


def exports() -> Table:
    rows = []
    for words, format in FILES.items():
        command = "report" if format in ("html", "md") else "export"
        rows.append((words, code(f"calibri study {command} STUDY --format {format}")))
    return ("file", "command"), rows


def rooms(package: str) -> Table:
    return ["room", "what it is for", "imports"], [list(row) for row in build_table(package)]


TABLES: dict[str, Callable[[], Table]] = {
    "settings": settings,
    "commands": commands,
    **{f"calibri {name}": partial(options, name) for name in COMMANDS},
    "calibri board": partial(options, "board"),
    "calibri study": study_actions,
    "calibri study create": partial(options, "study", "create"),
    "extras": extras,
    "endpoints": endpoints,
    "backbones": docs_of_backbones.backbones,
    "loading": docs_of_backbones.loading,
    "families": docs_of_backbones.families,
    "further sites": docs_of_backbones.further_sites,
    "verified families": docs_of_backbones.verified,
    "verified backbones": docs_of_backbones.entries,
    "shipped calibrations": shipped,
    "rewards": rewards,
    "published rewards": published_rewards,
    "reward odds": reward_odds,
    "calibri rewards": reward_actions,
    "search presets": search_presets,
    "prompts": prompt_counts,
    "protocols": protocols,
    "flags": flags,
    "exports": exports,
    "demo limits": demo_limits,
    "words": glossary,
    "rooms of the studio": partial(rooms, "studio"),
    "rooms of the library": partial(rooms, "calibri"),
}


def marked() -> dict[str, tuple[Path, str]]:
    """name → (page, what stands between its marks) of every marked table."""
    return {
        found[2]: (page, found[3])
        for page in PAGES
        for found in MARKED.finditer(page.read_text(encoding="utf-8"))
    }


def main() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        anew = MARKED.sub(lambda found: found[1] + written(TABLES[found[2]]()) + found[4], text)
        if anew != text:
            page.write_text(anew, encoding="utf-8")
            print(page.relative_to(ROOT))


if __name__ == "__main__":
    main()
