"""README and docs/ tell the truth: tables equal the code, links lead somewhere, commands and examples fit."""

from __future__ import annotations

import argparse
import ast
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from calibri.cli import parser as calibri_parser
from studio.settings import Settings, read_settings
from studio.settings import parser as studio_parser
from studio.shell.app import open_studio, pages
from tests import docs_tables
from tests.docs_tables import PAGES, ROOT, TABLES, endpoint_info, marked, written

TEXTS = {str(page.relative_to(ROOT)): page.read_text(encoding="utf-8") for page in PAGES}
TEXTS |= {name: (ROOT / name).read_text(encoding="utf-8") for name in ("CONTRIBUTING.md", "CHANGELOG.md")}
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"!?\[[^\]]*\]\(([^()\s]+)\)")


def blocks(language: str) -> list[tuple[str, str]]:
    """(page, text) of every fenced block in this language."""
    return [(page, b) for page, text in TEXTS.items() for kind, b in FENCE.findall(text) if kind == language]


def commands() -> list[tuple[str, str]]:
    """(page, command) of every line of the sh blocks, comments left out, continued lines joined."""
    found = []
    for page, text in blocks("sh"):
        lines = text.replace("\\\n", " ").splitlines()
        found += [(page, line.strip()) for line in lines if shlex.split(line, comments=True)]
    return found


def words_of(command: str) -> tuple[dict[str, str], list[str]]:
    """(variables set in front, words) of a command line."""
    words = shlex.split(command, comments=True)
    count = next(i for i, word in enumerate(words) if not re.match(r"[A-Z_]+=", word))
    return dict(word.split("=", 1) for word in words[:count]), words[count:]


# tables


@pytest.mark.parametrize("name", TABLES)
def test_tables_equal_the_code(name: str) -> None:
    assert name in marked(), f"no page has the table {name!r}"
    page, text = marked()[name]
    assert text == written(TABLES[name]()), f"{page.name}: python -m tests.docs_tables"


def test_every_mark_is_of_a_known_table_and_used_once() -> None:
    starts = [name for text in TEXTS.values() for name in re.findall(r"<!-- table: (.*?) -->", text)]
    ends = sum(text.count("<!-- /table -->") for text in TEXTS.values())
    assert sorted(starts) == sorted(TABLES) and ends == len(starts)


def test_tables_are_written_between_their_marks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- table: commands -->\n| old |\n<!-- /table -->\nb\n", encoding="utf-8")
    monkeypatch.setattr(docs_tables, "PAGES", [page])
    monkeypatch.setattr(docs_tables, "ROOT", tmp_path)
    docs_tables.main()
    expected = f"a\n<!-- table: commands -->\n{written(docs_tables.commands())}<!-- /table -->\nb\n"
    assert page.read_text(encoding="utf-8") == expected
    assert capsys.readouterr().out == "page.md\n"


def test_every_page_of_the_studio_is_described(tmp_path: Path) -> None:
    rows = re.findall(
        r"^\| \[([^\]]+)\]\([^)]+\) \| `(/\w*)` \|", TEXTS["docs/getting-started.md"], re.MULTILINE
    )
    studio = open_studio(Settings(data=tmp_path))
    shown = [page.module for page in pages(studio)]
    studio.close()
    assert rows == [(module.TITLE, module.PATH) for module in shown]


# links


def anchors(text: str) -> set[str]:
    """What GitHub calls the headings of a page."""
    heads = re.findall(r"^#+ (.*)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", TEXTS)
def test_links_and_pictures_are_there(page: str) -> None:
    missing = []
    for target in LINK.findall(TEXTS[page]):
        if re.match(r"\w+:", target):
            continue
        path, _, anchor = target.partition("#")
        where = ((ROOT / page).parent / path).resolve() if path else ROOT / page
        assert where.is_relative_to(ROOT), f"{target} leads out of the repository"
        if not where.exists():
            missing.append(target)
        if anchor and where.exists() and anchor not in anchors(where.read_text(encoding="utf-8")):
            missing.append(target)
    assert missing == []


def test_the_index_has_every_page() -> None:
    linked = {f"docs/{target}" for target in LINK.findall(TEXTS["docs/README.md"]) if "/" not in target}
    assert {page for page in TEXTS if page.startswith("docs/")} - {"docs/README.md"} <= linked


def test_readme_is_short_and_has_one_picture() -> None:
    assert len(TEXTS["README.md"].splitlines()) <= 120
    assert TEXTS["README.md"].count("](assets/screenshots/") == 1


def test_no_path_of_a_single_machine_is_in_the_docs() -> None:
    machine = re.compile(r"/(?:work|home|root|Users)/\w")
    assert [page for page, text in TEXTS.items() if machine.search(text)] == []


# commands


def parsed(parser: argparse.ArgumentParser, arguments: list[str]) -> None:
    """Raises AssertionError where the parser refuses the arguments."""
    try:
        parser.parse_args(arguments)
    except SystemExit:
        pytest.fail(f"{parser.prog} refuses {shlex.join(arguments)}")


def of_program(*program: str) -> Iterator[tuple[str, dict[str, str], list[str]]]:
    """(page, variables, arguments) of every command line that runs this program."""
    for page, command in commands():
        variables, words = words_of(command)
        words = [word.removeprefix(".venv/bin/") for word in words]
        if words[: len(program)] == list(program):
            yield page, variables, words[len(program) :]


def test_commands_of_calibri_parse() -> None:
    found = list(of_program("calibri"))
    assert len({arguments[0] for _, _, arguments in found}) == 15
    for _, _, arguments in found:
        parsed(calibri_parser(), arguments)


def test_commands_that_start_the_studio_parse() -> None:
    found = list(of_program("python", "app.py"))
    assert found
    for _, variables, arguments in found:
        parsed(studio_parser(), arguments)
        assert set(variables) <= {f"CALIBRI_{name.upper()}" for name in read_settings([], {}).model_dump()}
        read_settings(arguments, variables)


def test_make_has_the_targets() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for _, _, arguments in of_program("make"):
        targets = [word for word in arguments if "=" not in word]
        assert [t for t in targets if not re.search(rf"^{t}:", makefile, re.MULTILINE)] == []


def test_other_programs_are_there_and_know_their_options() -> None:
    """Benchmarks and training: their files are there, and they or what they import name each option."""
    shared = (ROOT / "benchmarks" / "ruler.py").read_text(encoding="utf-8")
    found = list(of_program("python"))
    assert found
    for page, _, words in found:
        if words[:1] == ["app.py"] or words[:2] == ["-m", "venv"]:
            continue
        name = words[1].replace(".", "/") if words[0] == "-m" else words[0].removesuffix(".py")
        package = ROOT / name / "__main__.py"
        text = (package if package.is_file() else ROOT / f"{name}.py").read_text(encoding="utf-8")
        options = [word for word in words if word.startswith("--")]
        assert [o for o in options if f'"{o}"' not in text + shared] == [], f"{page}: {name}"


def test_files_that_commands_read_are_there() -> None:
    named = [w for _, command in commands() for w in re.findall(r"assets/[\w./-]+", command)]
    assert named and [name for name in named if not (ROOT / name).exists()] == []


# examples


def test_examples_in_python_are_python() -> None:
    for page, text in blocks("python"):
        ast.parse(text, page)


def test_examples_call_endpoints_as_they_are() -> None:
    endpoints, called = endpoint_info(), set()
    for page, text in blocks("python"):
        for node in ast.walk(ast.parse(text)):
            if not (isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".predict")):
                continue
            given = {k.arg: k.value for k in node.keywords}
            name = ast.literal_eval(given.pop("api_name"))
            known = [p["parameter_name"] for p in endpoints[name]["parameters"]]
            assert set(given) <= set(known) and len(node.args) + len(given) <= len(known), f"{page}: {name}"
            called.add(name)
    assert called == set(endpoints)


def test_text_on_the_desk_is_a_vector() -> None:
    from calibri.backbones.catalog import CATALOG
    from calibri.backbones.layouts import Layout
    from calibri.backbones.sites import sites_of_config
    from calibri.calibration.vector_text import parse_vector

    spec = CATALOG["tabletop"]
    assert spec.transformer is not None
    layout = Layout.from_sites(sites_of_config(*spec.transformer), "layer")
    [text] = [block for page, block in blocks("text") if page == "docs/compare-and-scales.md"]
    values = dict(zip(layout.names, parse_vector(text, layout)))
    assert (values["double.3.attn"], values["double.0.mlp"], values["single.7.fused"]) == (1.05, 0.97, 1.1)
    assert values["single.0.fused"] == 1


def test_what_the_docs_say_is_kept_by_git() -> None:
    """A picture that is not committed is missing for everybody else."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    tracked = set(listed.stdout.splitlines())
    pictures = {
        str(((ROOT / page).parent / target).resolve().relative_to(ROOT))
        for page, text in TEXTS.items()
        for target in LINK.findall(text)
        if target.endswith(".png")
    }
    assert pictures <= tracked
