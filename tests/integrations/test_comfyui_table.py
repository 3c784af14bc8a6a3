"""The node for ComfyUI without ComfyUI: its table of names, its reader, and that it stands alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from calibri.backbones.catalog import CATALOG
from calibri.backbones.layouts import GRANULARITIES, Layout
from calibri.backbones.sites import Rows, Site, sites_of, sites_of_config
from calibri.calibration.artifact import Calibration, Member
from calibri.calibration.vector_text import format_vector, parse_vector
from calibri.errors import LayoutError
from integrations.comfyui.applying import Calibrated, renormalise
from integrations.comfyui.node import apply_calibration
from integrations.comfyui.reading import Member as OnSites
from integrations.comfyui.reading import names_at, read_members
from integrations.comfyui.scaling import multiply_chunks
from integrations.comfyui.table import FAMILIES, CalibrationError, list_sites
from tests.comfy_models import TWINS, recorded
from tests.fresh import run_fresh
from tests.house import ROOT

NODE = ROOT / "integrations" / "comfyui"
TWIN = pytest.mark.parametrize("name", TWINS)


def ours(name: str) -> tuple[Site, ...]:
    return sites_of(TWINS[name].make())


def theirs(name: str):
    found = recorded()[name]
    return list_sites(found["class"], found["modules"])


@TWIN
def test_the_table_has_our_scales_in_our_order(name: str) -> None:
    sites = theirs(name)
    assert [site.name for site in sites] == [site.name for site in ours(name)]
    for granularity in GRANULARITIES:
        assert names_at(granularity, sites) == Layout.from_sites(ours(name), granularity).names


@TWIN
def test_each_gate_is_the_chunk_that_folding_would_multiply(name: str) -> None:
    """ComfyUI keeps the rows of these weights as they are in diffusers."""
    for site, own in zip(theirs(name), ours(name)):
        assert isinstance(own.fold, Rows)
        assert (site.count, site.index) == (own.fold.count, own.fold.index), site.name


@TWIN
def test_each_module_puts_out_so_many_chunks(name: str) -> None:
    modules = recorded()[name]["modules"]
    for site in theirs(name):
        shape = modules.get(f"{site.module}.1", modules[site.module])  # (SiLU, Linear), or the Linear
        assert shape[0] == site.count * shape[1], site.module


def test_every_row_of_the_table_is_used() -> None:
    found = {site.name.split(".", 2)[-1] for name in TWINS for site in theirs(name)}
    rows = {row.name.split(".", 2)[-1] for family in FAMILIES for _, part in family.rows for row in part}
    assert rows == found
    assert len(FAMILIES) == len(TWINS)


def test_other_models_are_refused() -> None:
    modules = recorded()["flux"]["modules"]
    with pytest.raises(
        CalibrationError, match=r"expected a model of FLUX\.1, .*, got one of the class UNetModel"
    ):
        list_sites("UNetModel", modules)
    with pytest.raises(CalibrationError, match="got one with no blocks"):
        list_sites("Flux", ["img_in"])
    shared = {path: kind for path, kind in modules.items() if "img_mod" not in path}  # as FLUX.2 is built
    with pytest.raises(
        CalibrationError, match=r"built like FLUX\.1, got one with no module double_blocks\.0\.img_mod"
    ):
        list_sites("Flux", shared)
    with pytest.raises(CalibrationError, match=r"expected a model of a ComfyUI of 2025 or newer"):
        apply_calibration(object(), "* = 1")


# reading


TEXTS = (
    "double.1 = 1.25",
    "# blocks\ndouble[0-1] = 1.5\nsingle[0,2] = 0.5  // two of them",
    "double.*.attn = 1.1; *.mlp: 0.9",
    "double.0.img.attn = 1.05\ndouble.1.txt = 1",
    "double[0].img.attn = 1.05, single[*] = 2e-1",
    "*.attn = 0.7\ndouble.1.attn = 1.3",
    "single.1.fused = -1",
    "single = 1.2",
    "* = 0.5",
    "name,scale\ndouble.0,1.5\nsingle.2,.5",
    "double.0\t1.5\nsingle.2\t+0.5",
    '{"double.0": 1.5, "single.2": 2}',
    "1.0 1.1 1.2 1.3 1.4",
    "[1, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6]",
    "\n".join(str(i / 10) for i in range(11)),
)


@pytest.mark.parametrize("text", TEXTS)
def test_texts_mean_what_they_mean_in_calibri(text: str) -> None:
    sites = ours("flux")
    expected: np.ndarray | None = None
    error = ""
    for granularity in GRANULARITIES:  # the coarsest that takes it, as calibri.calibration.reading has it
        layout = Layout.from_sites(sites, granularity)
        try:
            expected = layout.expand(parse_vector(text, layout))
            break
        except LayoutError as refused:
            error = str(refused)
    if expected is None:
        with pytest.raises(CalibrationError):
            read_members(text, theirs("flux"))
        assert error
        return
    [member] = read_members(text, theirs("flux"))
    assert member == OnSites(tuple(expected.tolist()))


@TWIN
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_calibrations_and_exports_are_read(name: str, granularity: str) -> None:
    layout = Layout.from_sites(ours(name), granularity)
    rows = np.random.default_rng(0).normal(1, 0.3, (2, len(layout))).tolist()
    made = Calibration(
        granularity=granularity,
        names=layout.names,
        members=(
            Member(scales=tuple(rows[0]), weight=4.5),
            Member(scales=tuple(rows[1]), weight=-3.5, condition="negative"),
        ),
    )
    expected = [tuple(layout.expand(row).tolist()) for row in rows]
    found = read_members(made.to_json(), theirs(name))
    assert found == (OnSites(expected[0], 4.5), OnSites(expected[1], -3.5, False))
    for text in (
        format_vector(rows[0], layout),
        "\n".join(f"{n},{v!r}" for n, v in zip(layout.names, rows[0])),
        json.dumps(dict(zip(layout.names, rows[0]))),
        " ".join(map(repr, rows[0])),
    ):
        assert read_members(text, theirs(name)) == (OnSites(expected[0]),)


def with_content(**changed: object) -> str:
    names = ["double.0", "double.1", "single.0", "single.1", "single.2"]
    content = {
        "format": "calibri-calibration/1",
        "granularity": "block",
        "backbone": "FLUX.1-dev",
        "names": names,
        "members": [{"scales": [1.0] * 5, "weight": 1.0, "condition": "positive"}],
    }
    return json.dumps({**content, **changed})


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "expected a calibration, got an empty text"),
        ("{", "expected valid JSON"),
        ("[" * 100_000, "as many numbers as there are scales: .*; got 0"),
        ('{"solution": [1], "shapes": {}}', "checkpoint of the paper's code"),
        (with_content(format="other/2"), "expected the format 'calibri-calibration/1', got 'other/2'"),
        (with_content(granularity="atom"), "granularity: expected one of block, layer, gate, got 'atom'"),
        (with_content(members=[]), "a list of members"),
        (
            with_content(names=["double.0"]),
            "5 scales at block granularity .* FLUX.1-dev with 1: 'double.1' is missing",
        ),
        (with_content(names=["a", "b", "c", "d", "e"]), "'a' is unknown here"),
        (with_content(members=[{"scales": [1, 2]}]), "member 1: expected 5 scales"),
        (
            with_content(members=[{"scales": [1, 1, 1, 1, "x"]}]),
            "member 1: expected a finite number, got 'x'",
        ),
        (
            with_content(members=[{"scales": [1] * 5, "weight": True}]),
            "member 1: expected a finite number, got True",
        ),
        (with_content(members=[{"scales": [1] * 5, "weight": 0}]), "a weight other than 0"),
        (with_content(members=[{"scales": [1] * 5, "condition": "odd"}]), "positive or negative, got 'odd'"),
        ("double.0 = nan", "line 1: expected a finite number, got 'nan'"),
        ("double.0 = 1,05", "line 1: expected `name = number`, got '05'"),
        ("# all\ndouble[0-7] = 1.1", "line 2: expected an index from 0 to 1, got 7"),
        ("double[a] = 1", r"line 1: expected a name like double\[0-3\].attn"),
        ("triple.0 = 1", "line 1: expected the name of a scale .* got 'triple.0'"),
        ("1 2 3", r"as many numbers as there are scales: 5 \(block\), 7 \(layer\), 11 \(gate\); got 3"),
        ("hello", "expected a finite number, got 'hello'"),
    ],
)
def test_what_cannot_be_read_gets_a_sentence(text: str, complaint: str) -> None:
    with pytest.raises(CalibrationError, match=complaint):
        read_members(text, theirs("flux"))


def test_only_negative_members_are_refused() -> None:
    with pytest.raises(CalibrationError, match="expected a positive member"):
        Calibrated(theirs("flux"), [OnSites((1.0,) * 11, 1.0, False)])


# numbers


def test_a_scale_counts_in_bfloat16() -> None:
    output = torch.full((2, 6), 3.0, dtype=torch.bfloat16)
    factors = torch.tensor([[1.0, 1.0039, 1.0]])
    found = multiply_chunks(output, factors)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found[:, 2:4].float(), (output[:, 2:4].float() * 1.0039).bfloat16().float())
    assert torch.equal(multiply_chunks(output, torch.ones(2, 3)), output)


def test_rows_are_repeated_over_a_longer_modulation() -> None:
    """Qwen-Image-Edit: rows for [t, 0], each with the batch."""
    output, factors = torch.ones(4, 1, 4), torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    rows = multiply_chunks(output, factors)[:, 0, ::2]
    assert rows.tolist() == [[1, 2], [3, 4], [1, 2], [3, 4]]


def test_tokens_keep_their_norms() -> None:
    combined, like = (torch.randn(2, 4, 1, 5, 6, generator=torch.Generator().manual_seed(i)) for i in (0, 1))
    found = renormalise(combined, like)
    corner = (slice(None), slice(None), 0, slice(2, 4), slice(4, 6))
    torch.testing.assert_close(found[corner].flatten(1).norm(dim=1), like[corner].flatten(1).norm(dim=1))
    torch.testing.assert_close(renormalise(like, like), like)


# the folder


def test_the_folder_stands_alone(tmp_path: Path) -> None:
    """As ComfyUI imports it: from its path, without Calibri and without ComfyUI's modules."""
    code = (
        "import importlib.util, sys\n"
        f"spec = importlib.util.spec_from_file_location('a_node', {str(NODE / '__init__.py')!r})\n"
        "module = importlib.util.module_from_spec(spec)\n"
        "sys.modules['a_node'] = module\n"
        "spec.loader.exec_module(module)\n"
        "print(sorted(module.NODE_CLASS_MAPPINGS), [m for m in sys.modules if m.split('.')[0] in "
        "('calibri', 'diffusers', 'comfy', 'folder_paths')])"
    )
    assert run_fresh(code, tmp_path).strip() == "['CalibriApplyCalibration'] []"


def test_the_example_is_a_workflow_with_the_node() -> None:
    workflow = json.loads((NODE / "example-workflow.json").read_text(encoding="utf-8"))
    nodes = {each["id"]: each for each in workflow["nodes"]}
    [own] = [each for each in nodes.values() if each["type"] == "CalibriApplyCalibration"]
    assert [each["name"] for each in own["inputs"]] == ["model"]
    file, strength, combine, text = own["widgets_values"]
    assert (file, strength, combine) == ("(the text below)", 1.0, "multiply")
    spec = CATALOG["FLUX.1-dev"]
    assert spec.transformer is not None
    layout = Layout.from_sites(sites_of_config(*spec.transformer), "layer")
    assert any(value != 1 for value in parse_vector(text, layout))
    for link, source, slot, target, place, kind in workflow["links"]:
        assert nodes[source]["outputs"][slot]["type"] == nodes[target]["inputs"][place]["type"] == kind
        assert (
            link in nodes[source]["outputs"][slot]["links"] and nodes[target]["inputs"][place]["link"] == link
        )
    linked = {each["link"] for node in nodes.values() for each in node.get("inputs", ())}
    assert linked == {link[0] for link in workflow["links"]}
