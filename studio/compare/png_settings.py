"""Pictures as PNG files that carry their settings, and the way back: settings from such a file. No Gradio."""

from __future__ import annotations

import io
import json
import re
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibri.backbones.lora import write_uses
from calibri.errors import CalibriError, RenderError
from calibri.words import slug
from studio.compare.form import ARMS, USUAL, Form, check_form, fill_arms
from studio.core import Core
from studio.rendering.arms import KINDS, NOTHING, Choice
from studio.rendering.places import SharedPlace
from studio.rendering.shots import Comparison, Shot, guidance_of
from studio.visitors import Visitor

if TYPE_CHECKING:
    from PIL.Image import Image

    from calibri.backbones.loading import Backbone

_PATH = re.compile(r"^(?:/|[A-Za-z]:[\\/]|\\\\|~/)")


def describe_picture(comparison: Comparison, shot: Shot) -> dict[str, Any]:
    """All that is needed to render this picture again, and the arms that it was compared with.

    Names files without their folders. Raises CalibriError where there is no picture.
    """
    if shot.image is None:
        raise CalibriError("There is no picture to save.")
    arms = [
        {
            "kind": other.arm.kind,
            "chosen": choice.what,
            "steps": other.ask.steps,
            "guidance": guidance_of(other),
            "calibration": _json(other),
            **({"loras": other.painted_by["loras"]} if other.painted_by else {}),
        }
        for other, choice in zip(comparison.shots, comparison.choices or USUAL)
    ]
    return {
        "prompt": shot.ask.prompt,
        "negative_prompt": shot.ask.negative,
        "seed": shot.ask.seed,
        "steps": shot.ask.steps,
        "guidance": guidance_of(shot),
        "embedded_guidance": shot.ask.embedded,
        "width": shot.image.width,
        "height": shot.image.height,
        "arm": shot.arm.kind,
        "calibration": _json(shot),
        "nfe": shot.nfe,
        "seconds": round(shot.seconds, 3),
        "rewards": shot.rewards,
        **comparison.made_on,
        **shot.painted_by,
        "arms": arms,
    }


def _json(shot: Shot) -> Any:
    return leave_folders_out(json.loads(shot.arm.calibration.to_json())) if shot.arm.calibration else None


def leave_folders_out(value: Any) -> Any:
    """The same JSON value with the last part only of every path of a machine."""
    if isinstance(value, dict):
        return {key: leave_folders_out(each) for key, each in value.items()}
    if isinstance(value, list):
        return [leave_folders_out(each) for each in value]
    if isinstance(value, str) and _PATH.match(value):
        return re.split(r"[\\/]", value.rstrip("\\/"))[-1]
    return value


def name_file(shot: Shot) -> str:
    """`a-red-cube-seed3-calibrated-8.png`."""
    return f"{slug(shot.ask.prompt, 'picture', 48)}-seed{shot.ask.seed}-{shot.arm.kind}-{shot.ask.steps}.png"


def make_png(comparison: Comparison, shot: Shot) -> bytes:
    """One picture as it was rendered, as a PNG file with its settings."""
    settings = describe_picture(comparison, shot)
    assert shot.image is not None  # describe_picture says so
    return write_png(shot.image, settings)


def write_png(image: Image, settings: dict[str, Any]) -> bytes:
    """A picture as a PNG file with these settings."""
    from calibri.sampling.png import save_png

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture.png"
        save_png(image, path, settings)
        return path.read_bytes()


def make_zip(comparison: Comparison) -> bytes:
    """All pictures of a comparison as PNG files in one ZIP."""
    packed, names = io.BytesIO(), set()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for row in comparison.rows:
            for number, shot in enumerate(row, 1):
                if shot.image is None:
                    continue
                name = name_file(shot)
                if name in names:
                    name = f"{name.removesuffix('.png')}-arm{number}.png"
                names.add(name)
                archive.writestr(name, make_png(comparison, shot))
    if not names:
        raise CalibriError("There is no picture to save.")
    return packed.getvalue()


def read_form(core: Core, visitor: Visitor, path: Path) -> tuple[Form, str]:
    """The form that a PNG file asks for, and a note (empty: nothing to say).

    Calibrations that the studio does not have are kept with the visitor, to be chosen as arms. Raises
    RenderError for a file without settings, with damaged ones, or from another backbone.
    """
    from calibri.sampling.png import read_settings

    try:
        settings = read_settings(path)
    except RenderError as error:  # its words start with the path of the upload
        raise RenderError(str(error).replace(str(path), path.name)) from None
    loaded, made_on = core.host.backbone, settings.get("backbone")
    if loaded is not None and made_on not in (None, loaded.spec.name):
        raise RenderError(
            f"{path.name}: expected a picture of {loaded.spec.name}, which is loaded, got one that was made "
            f"on {str(made_on)[:80]!r}. Load that backbone first."
        )
    names = ("prompt", "seed", "steps", "width", "height")
    values: dict[str, Any] = {name: settings.get(name) for name in names}
    values |= {"negative": settings.get("negative_prompt"), "embedded": settings.get("embedded_guidance")}
    for name in names[-2:]:
        if loaded is not None and values[name] == getattr(loaded.spec, name):
            values[name] = None  # the page leaves the backbone's own size empty
    lost: list[str] = []
    try:
        form = Form(**values, arms=_read_arms(core, visitor, settings, lost))
        order = check_form(form)
    except RenderError as error:
        raise RenderError(f"{path.name}: its settings are damaged. {error}") from None
    form = replace(
        form,
        prompt=order.prompt,
        seed=order.seed,
        steps=order.steps,
        negative=order.negative,
        embedded=order.embedded,
        arms=order.arms,
    )
    if lost:
        return form, f"It was made with the LoRA {lost[0]}, which is not loaded: expect another picture."
    made_by = settings.get("backbone_fingerprint")
    if loaded is not None and made_by not in (None, _fingerprint(loaded, settings)):
        return form, f"It was made on another version of {loaded.spec.name}: expect another picture."
    return form, ""


def _fingerprint(loaded: Backbone, settings: dict[str, Any]) -> str:
    """Of what is loaded with the LoRAs of a picture on."""
    return loaded.fingerprint_with(loaded.loras.find(_list_loras(settings))[0])


def _list_loras(settings: dict[str, Any]) -> list[dict[str, Any]]:
    """The LoRAs that settings name. Raises RenderError where they are damaged."""
    found = settings.get("loras") or []
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise RenderError(f"loras: expected a list of LoRAs, got {str(found)[:40]!r}")
    return found


def _read_loras(core: Core, settings: dict[str, Any], lost: list[str]) -> str:
    """Which LoRAs are on for what these settings say, as a choice has it. Those that are not loaded go to
    `lost`."""
    about, loaded = _list_loras(settings), core.host.backbone
    if loaded is None:
        return ""
    uses, missing = loaded.loras.find(about)
    lost += missing
    return write_uses(uses) if len(loaded.loras) else ""


def _read_arms(core: Core, visitor: Visitor, settings: dict[str, Any], lost: list[str]) -> tuple[Choice, ...]:
    """The arms that the settings name, unchecked; for a file of the command line base and its own. LoRAs that
    are not loaded go to `lost`."""
    own = {key: settings.get(key) for key in ("steps", "guidance", "calibration", "loras")}
    listed = settings.get("arms") or [{**own, "calibration": None}, *([own] if own["calibration"] else [])]
    if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        raise RenderError(f"arms: expected a list of arms, got {str(listed)[:40]!r}")
    choices = []
    for each in listed[:ARMS]:
        what, kind = each.get("chosen"), each.get("kind")
        if each.get("calibration") is not None:
            what = _find_choice(core, visitor, each["calibration"])
        elif what != NOTHING:
            what = kind if kind in KINDS else "base"
        steps, guidance = each.get("steps"), each.get("guidance")
        alike = steps == settings.get("steps")
        own_guidance = None if guidance in (None, 0, 1) else guidance
        loras = _read_loras(core, each, lost) if what != NOTHING else ""
        choices.append(Choice(what, None if alike else steps, own_guidance, loras=loras))
    return fill_arms(tuple(choices))


def _find_choice(core: Core, visitor: Visitor, content: Any) -> str:
    """The id of the saved calibration with this content, or of a new one that is kept with the visitor."""
    from calibri.calibration.artifact import Calibration

    try:
        found = Calibration.from_json(json.dumps(content))
    except CalibriError as error:
        raise RenderError(f"calibration: {error}") from None
    for entry in core.calibrations.entries():
        if entry.calibration.hash == found.hash:
            return entry.id
    choice = visitor.place(SharedPlace).borrow(found)
    core.visitors.trim(visitor.id)
    return choice
