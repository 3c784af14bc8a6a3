"""Grids: what their cells are rendered with, what is refused, and the sheet."""

import json

import numpy as np
import pytest
from PIL import Image

from calibri.analysis.axes import MOST_CELLS, Axis, read_axis
from calibri.analysis.grid import Grid, Point, render_grid, set_scale, strengthen
from calibri.analysis.sheet import MOST_PIXELS, draw_sheet
from calibri.calibration.artifact import Calibration, Member
from calibri.cli import main
from calibri.errors import RenderError
from calibri.sampling.png import read_settings
from calibri.sampling.renderer import Renderer, RenderRequest
from tests.tiny import tiny_backbone

START = Point("a red cube", 3, 2)


@pytest.fixture(scope="module")
def backbone():
    return tiny_backbone()


@pytest.fixture(scope="module")
def bent(backbone):
    layout = backbone.layout("layer")
    scales = tuple(0.6 + 0.1 * i for i in range(len(layout)))
    return Calibration(
        title="Bent",
        backbone="tiny",
        granularity="layer",
        names=layout.names,
        members=(Member(scales=scales),),
    )


@pytest.fixture(scope="module")
def pair(bent):
    one = bent.members[0]
    weighted = [one.model_copy(update={"weight": 1.5}), Member(scales=one.scales, weight=-0.5)]
    return bent.changed(title="Pair", members=tuple(weighted))


def pixels(image):
    return np.asarray(image)


# what is typed


@pytest.mark.parametrize(
    "kind, typed, values",
    [
        ("steps", "2, 4; 8", (2, 4, 8)),
        ("steps", "2-8:2", (2, 4, 6, 8)),
        ("seed", "7-9", (7, 8, 9)),
        ("seed", "9223372036854775807", (2**63 - 1,)),  # not rounded
        ("guidance", "1-3:0.5", (1.0, 1.5, 2.0, 2.5, 3.0)),
        ("strength", "-0.5–0.5:0.5", (-0.5, 0.0, 0.5)),
        ("strength", "0, .5, 0.50", (0.0, 0.5)),  # each once
        ("prompt", "a red cube | a blue ball", ("a red cube", "a blue ball")),
        ("prompt", "a cube, red\n\nball | cone", ("a cube, red", "ball | cone")),
        ("arm", ["base", "Bent"], ("base", "Bent")),
    ],
)
def test_values_are_lists_or_ranges(kind, typed, values):
    assert read_axis(kind, typed).values == values


@pytest.mark.parametrize(
    "kind, typed, words",
    [
        ("steps", "", "steps: expected at least one value, got none"),
        ("steps", "0", "steps: expected a whole number from 1"),
        ("steps", "2.5", "steps: expected whole numbers like 2, 4, 8"),
        ("steps", "two", "expected whole numbers like 2, 4, 8 .* got 'two'"),
        ("steps", "1-1000", f"expected at most {MOST_CELLS} values, got 1000"),
        ("seed", "5-2", "expected a range from low to high"),
        ("seed", "1-9999999999999999999:0", "a step above 0"),
        ("guidance", "1-7", "expected a step behind a range, as in 1-7:0.5"),
        ("guidance", "0.5", "guidance: expected a number from 1"),
        ("scale", "9", "one scale: expected numbers from -4 to 4"),
        ("prompt", "x" * 5000, "prompt: expected at most 4000 characters"),
        ("strength", "1," * 5000, "strength: expected at most 4000 characters"),
        ("hair", "1", "expected a setting of steps, guidance, .* got 'hair'"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_setting(kind, typed, words):
    with pytest.raises(RenderError, match=words):
        read_axis(kind, typed, "double.0.attn")


def test_a_scale_needs_its_name():
    with pytest.raises(RenderError, match="expected the name of one"):
        read_axis("scale", "0, 1", " ")


def test_heads_say_the_values_as_people_read_them():
    assert read_axis("strength", "0, 0.125, 1").labels == ["Strength 0.00", "Strength 0.125", "Strength 1.00"]
    assert read_axis("scale", "0.5", "single.1.fused").labels == ["single.1.fused 0.50"]
    assert read_axis("prompt", "a cone").labels == ["a cone"]
    assert read_axis("steps", "4").labels == ["Steps 4"]


# grids


def test_a_grid_is_at_most_so_large_and_of_two_different_settings(bent, pair):
    wide, tall = read_axis("seed", "1-33"), read_axis("steps", "1, 2")
    with pytest.raises(RenderError, match=r"at most 64 pictures in a grid, got 33 × 2 = 66"):
        Grid(START, wide, tall)
    with pytest.raises(RenderError, match="two different settings, got seed twice"):
        Grid(START, wide, read_axis("seed", "1"))
    one, other = (read_axis("scale", "1", name) for name in ("double.0.attn", "double.1.attn"))
    assert Grid(START, one, other).size == 1
    with pytest.raises(RenderError, match="strength: expected a calibration, got the base"):
        Grid(START, read_axis("strength", "0, 1"))
    with pytest.raises(RenderError, match="guidance in its weights"):
        Grid(Point("a", 1, 2, calibration=pair), read_axis("guidance", "1, 2"))
    with pytest.raises(RenderError, match="arm: expected one of base, Bent, got 'Bend'"):
        Grid(START, read_axis("arm", ["Bend"]), arms={"base": None, "Bent": bent})


def test_cells_are_the_pictures_of_their_settings(backbone, bent):
    """Row after row, each as if it were rendered alone, in batches of other sizes than the grid's."""
    arms = {"base": None, "Bent": bent}
    grid = Grid(START, read_axis("steps", "1, 2, 3"), Axis("arm", ("base", "Bent")), arms)
    made = render_grid(Renderer(backbone, batch_size=2), grid)
    alone = [
        RenderRequest.of("a red cube", 3, steps, calibration=arm)
        for arm in arms.values()
        for steps in (1, 2, 3)
    ]
    assert [each.request.steps for each in made] == [1, 2, 3, 1, 2, 3]
    for one, request in zip(made, alone, strict=True):
        [expected] = Renderer(backbone).render([request])
        assert np.abs(pixels(one.image).astype(int) - pixels(expected.image)).max() <= 1
    assert len({pixels(each.image).tobytes() for each in made}) == 6


def test_a_strength_of_0_is_the_base_and_of_1_the_calibration(backbone, bent):
    grid = Grid(Point("a cone", 1, 2, calibration=bent), read_axis("strength", "0, 1, -1"))
    none, whole, against = (p.calibration for p in grid.points(backbone.layout))
    assert set(none.members[0].scales) == {1.0}
    assert whole.members[0].scales == pytest.approx(bent.members[0].scales)
    assert against.members[0].scales[0] == pytest.approx(1.4)  # 0.6 on the other side of 1
    base, strong, _ = render_grid(Renderer(backbone), grid)
    [plain] = Renderer(backbone).render([RenderRequest("a cone", 1, 2)])
    far = [np.abs(pixels(each.image).astype(int) - pixels(plain.image)).max() for each in (base, strong)]
    assert far[0] <= 1 < far[1]


def test_the_strength_comes_before_a_single_scale(backbone, bent):
    name = bent.names[0]
    grid = Grid(
        Point("a", 1, 2, calibration=bent), read_axis("scale", "0.5", name), read_axis("strength", "0")
    )
    [point] = grid.points(backbone.layout)
    assert point.calibration.members[0].scales == (0.5, *[1.0] * (len(bent.names) - 1))


def test_a_scale_is_set_at_the_finer_of_two_granularities(backbone, bent):
    layout_of = backbone.layout
    block = set_scale(None, "double.1", 0.0, layout_of)
    assert block.granularity == "block" and dict(zip(block.names, block.members[0].scales))["double.1"] == 0.0
    tied = set_scale(bent, "double.1", 0.0, layout_of)  # a layer's vector: both layers of the block
    scales = dict(zip(tied.names, tied.members[0].scales))
    assert tied.granularity == "layer" and {scales["double.1.attn"], scales["double.1.mlp"]} == {0.0}
    assert scales["double.0.attn"] == bent.members[0].scales[0]
    gate = layout_of("gate").names[0]
    fine = set_scale(bent, gate, 2.0, layout_of)
    changed = [n for n, s in zip(fine.names, fine.members[0].scales) if s == 2.0]
    assert fine.granularity == "gate" and changed == [gate]
    with pytest.raises(RenderError, match=r"expected a name such as 'double.0.attn'.*got 'double.9'"):
        set_scale(None, "double.9", 1.0, layout_of)


def test_an_ensemble_is_strengthened_in_all_its_members_and_keeps_its_weights(pair):
    made = strengthen(pair, 0.5)
    assert [m.weight for m in made.members] == [1.5, -0.5]
    assert [m.scales[0] for m in made.members] == pytest.approx([0.8, 0.8])


def test_embedded_guidance_is_refused_where_a_model_reads_none(backbone):
    grid = Grid(START, read_axis("embedded-guidance", "1, 3.5"))
    with pytest.raises(RenderError, match="expected a distilled model, got tiny"):
        grid.points(backbone.layout, backbone.spec)
    assert [p.embedded for p in grid.points(backbone.layout)] == [1.0, 3.5]


# the sheet


def test_a_sheet_holds_every_picture_whole_and_its_heads():
    colours = [(250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 0)]
    pictures = [Image.new("RGB", (256, 256), colour) for colour in colours]
    sheet = draw_sheet(
        pictures, ["Steps 1", "Steps 2"], ["a red cube", "a very long prompt " * 9], caption="x"
    )
    found = [tuple(colour) for colour in np.unique(pixels(sheet).reshape(-1, 3), axis=0)]
    for colour in colours:
        assert colour in found
        assert (pixels(sheet) == colour).all(axis=2).sum() == 256 * 256
    assert (pixels(sheet)[:, :250] < 100).all(axis=2).any()  # letters beside the rows
    with pytest.raises(RenderError, match="expected 2 × 1 pictures for a sheet, got 4"):
        draw_sheet(pictures, ["a", "b"])


def test_small_pictures_are_enlarged_sharply_and_many_large_ones_made_smaller():
    dots = Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8))
    sheet = pixels(draw_sheet([dots], ["Steps 1"]))
    top = np.argwhere((sheet == pixels(dots)[0, 0]).all(axis=2))[0]
    block = sheet[top[0] : top[0] + 192, top[1] : top[1] + 192]
    assert np.array_equal(block[::6, ::6], pixels(dots))
    large = draw_sheet([Image.new("RGB", (2048, 2048))] * 64, [str(i) for i in range(8)], ["row"] * 8)
    assert large.width * large.height < 1.5 * MOST_PIXELS


# the command


def run(capsys, *argv):
    code = main([str(each) for each in argv])
    return code, capsys.readouterr()


def test_the_command_writes_a_sheet_that_carries_its_settings(flux_folder, bent, tmp_path, capsys):
    folder, out = tmp_path / "one", tmp_path / "sheet.png"
    bent.save(folder / "bent.json")
    argv = ["grid", "a red cube", "--backbone", flux_folder, "--seed", 3, "--rows", "steps=1,2", "-o", out]
    code, said = run(capsys, *argv, "--columns", f"arm=base,{folder / 'bent.json'}")
    assert code == 0 and "4 pictures" in said.out, said.err
    settings = read_settings(out)
    assert settings["grid"]["columns"] == {"of": "arm", "values": ["base", "bent"]}
    assert settings["grid"]["rows"] == {"of": "steps", "values": [1, 2]}
    assert Calibration(**settings["grid"]["arms"]["bent"]) == bent
    assert settings["grid"]["arms"]["base"] is None
    assert (settings["prompt"], settings["seed"], settings["nfe"]) == ("a red cube", 3, 6)
    assert str(tmp_path) not in json.dumps(settings)
    with Image.open(out) as sheet:
        assert min(sheet.size) > 2 * 192


@pytest.mark.parametrize(
    "options, words",
    [
        (["--columns", "steps"], "--columns: expected SETTING=VALUES"),
        (["--columns", "steps=0"], "--columns: steps: expected a whole number"),
        (["--columns", "steps=1", "--rows", "scale=0-1:0.5"], "--rows: scale: expected the name"),
        (["--columns", "strength=0,1"], "strength: expected a calibration"),
        (["--columns", "arm=base,none.json"], "none.json"),
        (["--columns", "seed=1", "--steps", "0"], "--steps: expected a whole number"),
        (["--columns", "seed=1", "-o", "sheet.jpg"], "ends in .png"),
        (["--columns", "scale:double.9.attn=1"], "expected a name such as"),
    ],
)
def test_the_command_fails_in_one_line(flux_folder, tmp_path, monkeypatch, capsys, options, words):
    monkeypatch.chdir(tmp_path)
    code, said = run(capsys, "grid", "a cube", "--backbone", flux_folder, *options)
    assert code == 1 and said.out == "" and said.err.count("\n") == 1
    assert words in said.err
    assert list(tmp_path.glob("*.png")) == []
