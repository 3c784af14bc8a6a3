"""Kinds of prompt files: whatever the writer, the same prompts come out, or a sentence does."""

import csv
import io
import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibri.errors import CalibriError, PromptError
from calibri.prompts import files
from calibri.prompts.files import as_text, join_line, read_prompts, read_typed

WANTED = ("a red cube", "two blue cones, shiny")

READ = {
    "plain.txt": "a red cube\ntwo blue cones, shiny\n",
    "old-mac.txt": "a red cube\rtwo blue cones, shiny\r",
    "no-ending": "\n\n  a red cube  \n\ntwo   blue cones, shiny",
    "form-feed.txt": "a red cube\x0c\ntwo blue cones,\x0bshiny\x1a",
    "doubles.txt": "a red cube\ntwo blue cones, shiny\na red cube\n",
    "bullets.txt": "- a red cube\n- two blue cones, shiny\n",
    "numbered.txt": "1. a red cube\n2. two blue cones, shiny\n",
    "quoted.txt": '"a red cube"\n"two blue cones, shiny"\n',
    "list-without-brackets.txt": '"a red cube",\n"two blue cones, shiny"\n',
    "midjourney.txt": "a red cube --ar 16:9 --v 6\ntwo blue cones, shiny --no text --stylize 100\n",
    "kohya-dash.txt": "a red cube --w 512 --l 7.5\n# remark\ntwo blue cones, shiny --s=20\n",
    "from-file.txt": '--prompt "a red cube" --steps 20\n--prompt "two blue cones, shiny" --negative "x"\n',
    "caption.csv": 'id,caption\n1,a red cube\n2,"two blue cones, shiny"\n',
    "text.tsv": "text\tn\na red cube\t1\ntwo blue cones, shiny\t2\n",
    "upper.csv": 'PROMPT,Category\na red cube,x\n"two blue cones, shiny",y\n',
    "spaces.csv": 'id, Prompt , category\n1, a red cube , x\n2, "two blue cones, shiny", y\n',
    "semicolons.csv": "prompt;category\na red cube;x\ntwo blue cones, shiny;y\n",
    "bars.csv": "prompt|category\na red cube|x\ntwo blue cones, shiny|y\n",
    "markdown.txt": "| prompt | category |\n|---|:---:|\n| a red cube | x |\n| two blue cones, shiny | y |\n",
    "excel.csv": "sep=;\nprompt;category\na red cube;x\ntwo blue cones, shiny;y\n",
    "index.csv": ',prompt,score\n0,a red cube,0.5\n1,"two blue cones, shiny",0.25\n',
    "one-column.csv": "prompt\na red cube\ntwo blue cones, shiny\n",
    "one-column-quoted.csv": '"Prompt"\n"a red cube"\n"two blue cones, shiny"\n',
    "one-column.txt": "prompts\na red cube\ntwo blue cones, shiny\n",
    "new-line.csv": 'prompt,category\n"a red\ncube",x\n"two blue\r\ncones, shiny",y\n',
    "short-rows.tsv": "Prompt\tCategory\tNote\na red cube\ntwo blue cones, shiny\ty\n",
    "long-rows.csv": 'prompt,category\na red cube,x,,\n"two blue cones, shiny",y,\n',
    "table.txt": "Prompt\tCategory\na red cube\tx\ntwo blue cones, shiny\ty\n",
    "commented.csv": '# made by hand\nprompt,category\na red cube,x\n"two blue cones, shiny",y\n',
    "list.json": '["a red cube", "two blue cones, shiny"]',
    "list.txt": '[\n"a red cube",\n"two blue cones, shiny"\n]',
    "objects.json": '[{"id": 1, "caption": "a red cube"}, {"id": 2, "caption": "two blue cones, shiny"}]',
    "wrapped.json": '{"version": 2, "data": [{"prompt": "a red cube"}, {"prompt": "two blue cones, shiny"}]}',
    "named.json": '{"prompts": ["a red cube", "two blue cones, shiny"]}',
    "columns.json": '{"prompt": {"0": "a red cube", "1": "two blue cones, shiny"}, "n": {"0": 1, "1": 2}}',
    "by-id.json": '{"a1": {"prompt": "a red cube"}, "a2": {"prompt": "two blue cones, shiny"}}',
    "by-number.json": '{"001": "a red cube", "002": "two blue cones, shiny"}',
    "by-category.json": '{"x": ["a red cube"], "y": ["two blue cones, shiny"]}',
    "lines.jsonl": '{"prompt": "a red cube"}\r\n\r\n{"prompt": "two blue cones, shiny", "seed": 3}\r\n',
    "lines.json": '{"text": "a red cube"}\n{"text": "two blue cones, shiny"}',
    "texts.jsonl": '"a red cube"\n"two blue cones, shiny"\n',
    "empty-rows.csv": 'prompt,n\na red cube,1\n,2\n\n"two blue cones, shiny",3\n',
    "null.jsonl": '{"prompt": "a red cube"}\n{"prompt": null}\n{"prompt": "two blue cones, shiny"}',
}

REFUSED = {
    "empty.txt": ("", "empty file"),
    "blank.txt": (" \n\t\n", "empty file"),
    "comments.txt": ("# a\n# b\n", "got none"),
    "headless.csv": ("a red cube,colour\na blue cone,colour\n", "names of columns"),
    "unknown.csv": ("sentence_en,kind\na red cube,x\n", "“sentence_en”, “kind”"),
    "headless.tsv": ("a red cube\tcolour\n", "names of columns"),
    "headless.txt": ("a red cube,colour\na blue cone,colour\n", "got lines with commas"),
    "quoted-headless.txt": ('"a red, red cube","x"\n"a blue cone","y"\n', "got lines with commas"),
    "tabs.txt": ("a red cube\tcolour\na blue cone\tcolour\n", "got lines with tabs"),
    "unquoted.csv": ("prompt,category\na red cube, shiny,x\n", "line 2: expected 2 cells"),
    "open-quote.csv": ('prompt,category\n"a red cube,x\na blue cone,y\n', "double quote"),
    "broken.json": ('["a red cube",', "broken JSON"),
    "broken.txt": ('["a red cube",\n"a blue cone"', "broken JSON"),
    "python.txt": ("['a red cube', 'a blue cone']", "broken JSON"),
    "broken.jsonl": ('{"prompt": "a red cube"}\n{"prompt": \n', "line 2: expected one JSON value"),
    "no-field.jsonl": ('{"scene": "a red cube"}\n', "line 1: expected a field “prompt”"),
    "lost-field.jsonl": (
        '{"prompt": "a red cube"}\n{"caption": "b"}\n',
        "line 2: expected the field “prompt”",
    ),
    "number.json": ('["a red cube", 7]', "item 2: expected a text like the ones before it, got the number 7"),
    "nested.json": ('[["a red cube", "x"]]', "item 1: expected a list of texts"),
    "list-field.json": ('[{"prompt": ["a", "b"]}]', "expected a text in “prompt”, got a list"),
    "other.json": ('{"backbone": "tabletop", "scales": [1, 1.2]}', "got an object with “backbone”, “scales”"),
    "seven.json": ("7", "got the number 7"),
    "deep.json": ("[" * 100_000, "nested too deep"),
    "half.json": ('["a \\ud800 cube"]', "half a character"),
    "page.txt": ("<!DOCTYPE html>\n<html>a red cube</html>", "a web page"),
    "prompts.yaml": ("- a red cube\n- a blue cone\n", "got YAML"),
    "script.py": ("prompts = ['a red cube']", "a Python script"),
    "long.txt": ("a" * 4001, "at most 4000 characters, got 4001"),
    "binary.txt": ("a red\0 cube\nb", "binary data"),
    "flags.txt": ("--steps 20\n--prompt x\n", "line 1: expected --prompt"),
}


@pytest.mark.parametrize("name", READ)
def test_every_kind_gives_the_same_prompts(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(READ[name].encode())
    file = read_prompts(path)
    assert file.prompts == WANTED
    assert file == read_prompts(path.read_bytes(), name)
    if {"x", "y"} & set(file.categories):
        assert file.categories in (("x", "y"), ("", "y"))


@pytest.mark.parametrize("name", REFUSED)
def test_the_rest_is_refused_with_a_sentence(name):
    text, words = REFUSED[name]
    with pytest.raises(PromptError, match="expected") as refused:
        read_prompts(text.encode(), name)
    message = str(refused.value)
    assert words in message and message.startswith(name) and len(message) < 400 and "\n" not in message


MARKED = ["utf-8", "utf-8-sig", "utf-16", "utf-32"]
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252", "latin-1"]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.jsonl"])
def test_every_encoding_gives_the_same_prompts(encoding, name):
    wanted = ("a café table", "eine Tür und ein großer Baum", "a red cube")
    text = {
        "a.txt": "\n".join(wanted),
        "a.csv": "\n".join(["prompt", *wanted]),
        "a.jsonl": "\n".join(json.dumps({"prompt": p}, ensure_ascii=False) for p in wanted),
    }[name]
    for mark in ("", "\ufeff") if encoding in ("utf-16-le", "utf-16-be") else ("",):
        file = read_prompts((mark + text).encode(encoding), name)
        assert file.prompts == wanted
        assert bool(file.notes) == (encoding in ("cp1252", "latin-1"))


@pytest.mark.parametrize(
    "data, words",
    [
        ("красный куб".encode("cp1251"), "another encoding"),
        ("赤い立方体".encode("shift-jis"), "another encoding"),
        ("红色立方体".encode("gbk"), "another encoding"),
        ("a café table\n".encode() + "a naïve cat".encode("cp1252"), "line 2: expected UTF-8, got a damaged"),
        (b"\xff\xfea\x00b", "damaged character"),
        (b"\xef\xbb\xbfa \xff cube", "damaged character"),
        (b"\x89PNG\r\n\x1a\n0000", "a PNG picture"),
        (b"PK\x03\x040000", "a zip archive"),
        (b"PAR1\x15\x00", "a Parquet table"),
        (b"\x1f\x8b\x08\x00", "a gzip archive"),
    ],
)
def test_what_is_no_readable_text_is_refused(data, words):
    with pytest.raises(PromptError, match="expected") as refused:
        read_prompts(data, "a.txt")
    assert words in str(refused.value)


@pytest.mark.parametrize(
    "prompt",
    [
        "a dog, text, 4k",
        "[cat:dog:0.5] in a park",
        "{red|blue} car",
        "a sign that says: prompt",
        'the word "START" in chalk',
        "1girl, solo, smile",
        "a cube -- red",
        "3.5 metres of rope",
        "a well-known -- and old -- trick",
        "naïve 猫 🐈‍⬛ café",
    ],
)
def test_lines_that_only_resemble_another_format_stay_prompts(prompt):
    assert read_typed(f"{prompt}\na red cube").prompts == (prompt, "a red cube")


def test_weights_and_unknown_flags_stay_and_are_said():
    file = read_typed("a (red:1.3) cube\na cone --wobble 3\n{red|blue} car")
    assert file.prompts == ("a (red:1.3) cube", "a cone --wobble 3", "{red|blue} car")
    assert len(file.notes) == 3 and all("read as part of the prompt" in note for note in file.notes)


def test_too_much_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(files, "MOST_PROMPTS", 10)
    with pytest.raises(PromptError, match="at most 10 prompts, got 11"):
        read_typed("\n".join(f"cube {i}" for i in range(11)))
    monkeypatch.setattr(files, "MOST_BYTES", 2**20)
    (tmp_path / "large.txt").write_bytes(b"a" * (2**20 + 1))
    for source in (tmp_path / "large.txt", b"a" * (2**20 + 1)):
        with pytest.raises(PromptError, match="at most 1 MB"):
            read_prompts(source)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(PromptError, match="No such file"):
        read_prompts(tmp_path / "none.txt")
    with pytest.raises(PromptError, match="got a folder"):
        read_prompts(tmp_path)


def test_a_pipe_is_read():
    read, write = os.pipe()
    with os.fdopen(write, "wb") as file:
        file.write(READ["upper.csv"].encode())
    assert read_prompts(f"/dev/fd/{read}").prompts == WANTED
    os.close(read)


def test_the_summary_names_count_categories_and_the_first_three():
    text = "prompt,category\n" + "".join(f"cube {i},{'ab'[i % 2]}\n" for i in range(9))
    summary = read_typed(text, "mine.csv").summary()
    told = "CSV, prompts of “prompt”, categories of “category”"
    assert summary == f"mine.csv: 9 prompts in 2 categories ({told}). First: “cube 0”, “cube 1”, “cube 2”"


# properties

WORDS = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufeff"), min_size=1, max_size=40
).map(join_line)
PROMPTS = st.lists(WORDS.filter(bool), min_size=1, max_size=12, unique=True)


def write_csv(separator):
    def write(prompts, categories):
        out = io.StringIO()
        rows = [
            ("id", "Prompt", "Category"),
            *[(i, p, c) for i, (p, c) in enumerate(zip(prompts, categories))],
        ]
        csv.writer(out, delimiter=separator, quoting=csv.QUOTE_ALL).writerows(rows)
        return out.getvalue()

    return write


def write_lines(prompts, categories):
    rows = ({"prompt": p, "category": c, "n": 1} for p, c in zip(prompts, categories))
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)


WRITERS = {
    "a.csv": write_csv(","),
    "a.tsv": write_csv("\t"),
    "b.csv": write_csv(";"),
    "c.csv": write_csv("|"),
    "a.jsonl": write_lines,
    "a.json": lambda ps, cs: json.dumps([{"Prompt": p, "tag": c} for p, c in zip(ps, cs)]),
    "b.json": lambda ps, cs: json.dumps({"prompt": ps, "category": cs}, indent=2),
}


@given(PROMPTS, st.sampled_from(sorted(WRITERS)), st.sampled_from(MARKED), st.data())
def test_what_is_written_with_a_header_is_read_again(prompts, name, encoding, data):
    """Commas, quotes, marks of comments, flags and brackets inside a cell are part of the prompt."""
    categories = data.draw(st.lists(st.sampled_from("xyz"), min_size=len(prompts), max_size=len(prompts)))
    file = read_prompts(WRITERS[name](prompts, categories).encode(encoding), name)
    assert file.prompts == tuple(prompts)
    assert file.categories == tuple(categories)


@given(st.binary(max_size=200), st.sampled_from(["a", "a.txt", "a.csv", "a.tsv", "a.json", "a.jsonl"]))
def test_any_bytes_give_prompts_or_a_sentence(data, name):
    try:
        file = read_prompts(data, name)
    except CalibriError as error:
        assert "expected" in str(error)
        return
    assert file.prompts and len(file.prompts) == len(file.categories) == len(set(file.prompts))
    assert all(prompt == join_line(prompt) and prompt for prompt in file.prompts)


@given(st.text(max_size=200))
def test_any_text_that_is_read_is_shown_so_that_it_is_read_again(text):
    try:
        file = read_typed(text)
    except CalibriError:
        return
    again = read_typed(as_text(file))
    assert (again.prompts, again.categories) == (file.prompts, file.categories)


SEPARATORS = st.sampled_from(["\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029", "\t", "\xa0", "  "])


@given(
    st.lists(st.tuples(SEPARATORS, SEPARATORS), min_size=2, max_size=6), st.sampled_from(["\n", "\r\n", "\r"])
)
def test_only_line_ends_split(gaps, end):
    lines = [f"cube{i}{a}red{b}shiny and new" for i, (a, b) in enumerate(gaps)]
    wanted = tuple(f"cube{i} red shiny and new" for i in range(len(gaps)))
    if sum("\t" in line for line in lines) * 2 <= len(lines):
        assert read_typed(end.join(lines)).prompts == wanted
