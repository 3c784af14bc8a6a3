"""The node *Apply Calibri calibration*: a model and a calibration in, the calibrated model out."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any

from .applying import Calibrated
from .reading import Member, read_members
from .table import CalibrationError, find_family, list_sites

KEY = "calibri"  # of what this node puts on a model
FOLDER = "calibri"  # below ComfyUI's models
ENDINGS = (".json", ".txt", ".csv", ".tsv")
FROM_TEXT = "(the text below)"


def apply_calibration(model: Any, text: str, strength: float = 1.0, combine: str = "multiply") -> Any:
    """A clone of a ModelPatcher that predicts as the calibration says; `model` itself stays as it is.

    `text`: of a calibration, see reading.py. `strength`: 0 is the model without it, 1 the calibration.
    `combine`: whether a node before this one is multiplied or replaced. Raises CalibrationError.
    """
    if not hasattr(model, "add_wrapper_with_key"):
        raise CalibrationError("expected a model of a ComfyUI of 2025 or newer, whose models take wrappers")
    inner = getattr(model.model, "diffusion_model", None)
    inner = getattr(inner, "_orig_mod", inner)
    name = type(inner).__name__
    sites = list_sites(name, _list_paths(inner)) if inner is not None else ()
    if not sites:
        raise CalibrationError("expected a diffusion model, got one without `diffusion_model`")
    members = [_strengthened(member, strength) for member in read_members(text, sites)]
    made = Calibrated(sites, members, renormalised=name == "QwenImageTransformer2DModel")
    before = model.get_attachment(KEY)
    if before is not None and combine == "multiply":
        made = before.times(made)
    clone = model.clone()
    _take_off(clone, before)
    _put_on(clone, made)
    count = len(made.members)
    logging.info(
        "Calibri: %d sites of %s, %d member%s", len(sites), find_family(name).title, count, "s" * (count > 1)
    )
    return clone


def _list_paths(model: Any) -> list[str]:
    """The paths of its modules, of compiled ones too."""
    return [path.replace("_orig_mod.", "").removesuffix("._orig_mod") for path, _ in model.named_modules()]


def _strengthened(member: Member, strength: float) -> Member:
    if strength == 1:
        return member
    return Member(tuple(1 + strength * (v - 1) for v in member.values), member.weight, member.positive)


def _put_on(model: Any, made: Calibrated) -> None:
    model.set_attachments(KEY, made)
    model.add_wrapper_with_key("apply_model", KEY, made)  # comfy.patcher_extension.WrappersMP.APPLY_MODEL
    if made.guides:
        if "sampler_cfg_function" in model.model_options:
            raise CalibrationError(
                "this calibration has negative members, which are its guidance: expected a model without a "
                "guidance of its own, got one from a node before"
            )

        def guide(args: dict[str, Any]) -> Any:  # a function: cloning a model copies other things in depth
            return made.guide(args)

        model.set_model_sampler_cfg_function(guide, disable_cfg1_optimization=True)


def _take_off(model: Any, before: Calibrated | None) -> None:
    """What a node before this one has put on a model that is ours to change."""
    model.remove_wrappers_with_key("apply_model", KEY)
    if before is not None and before.guides:
        model.model_options.pop("sampler_cfg_function", None)
        model.model_options.pop("disable_cfg1_optimization", None)


class ApplyCalibration:
    """What ComfyUI knows of the node."""

    CATEGORY = "model_patches"
    FUNCTION = "apply"
    RETURN_TYPES = ("MODEL",)
    DESCRIPTION = (
        "Multiplies the residual branches of FLUX.1, Stable Diffusion 3 / 3.5 or Qwen-Image by the scales of "
        "a calibration that Calibri has found."
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        files = [FROM_TEXT, *list_files()]
        strength = {"default": 1.0, "min": -4.0, "max": 4.0, "step": 0.05}
        return {
            "required": {
                "model": ("MODEL",),
                "calibration": (files, {"tooltip": f"A file in models/{FOLDER}"}),
                "strength": ("FLOAT", {**strength, "tooltip": "0: the model as it was, 1: the calibration"}),
                "combine": (["multiply", "replace"], {"tooltip": "With a calibration from a node before"}),
            },
            "optional": {
                "text": (
                    "STRING",
                    {"multiline": True, "default": "", "placeholder": "double[0-3].attn = 1.05"},
                ),
            },
        }

    @classmethod
    def IS_CHANGED(cls, calibration: str, text: str = "", **_: Any) -> str:
        try:
            return hashlib.sha256(read_text(calibration, text).encode()).hexdigest()
        except CalibrationError as error:
            return str(error)

    def apply(
        self, model: Any, calibration: str, strength: float = 1.0, combine: str = "multiply", text: str = ""
    ) -> tuple[Any]:
        where = "the text" if calibration == FROM_TEXT else calibration
        try:
            return (apply_calibration(model, read_text(calibration, text), strength, combine),)
        except CalibrationError as error:
            raise CalibrationError(f"{where}: {error}") from error


def read_text(calibration: str, text: str) -> str:
    """The text of a file in models/calibri, or what was typed. Raises CalibrationError."""
    if calibration == FROM_TEXT:
        return text
    import folder_paths

    path = folder_paths.get_full_path(FOLDER, calibration)
    if path is None:
        raise CalibrationError(f"expected a file in models/{FOLDER}, got none of this name")
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise CalibrationError(f"expected a file with text, got: {error}") from error


def list_files() -> list[str]:
    """The files in models/calibri, also of the folders that extra_model_paths.yaml names."""
    import folder_paths

    own = str(Path(folder_paths.models_dir) / FOLDER)
    folders, _ = folder_paths.folder_names_and_paths.get(FOLDER, ([], set()))
    if own not in folders:
        folders = [*folders, own]
    folder_paths.folder_names_and_paths[FOLDER] = (folders, set(ENDINGS))
    return list(folder_paths.get_filename_list(FOLDER))
