"""Whatever a file holds of scales, as a calibration: this project's format, a checkpoint of the paper's own
code, or a vector as text, table or JSON. No torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from calibri.backbones.layouts import GRANULARITIES, Layout
from calibri.backbones.sites import Site
from calibri.calibration.artifact import FORMAT, LARGEST_FILE, Calibration, Member
from calibri.calibration.hub import locate
from calibri.calibration.official import from_official
from calibri.calibration.vector_text import parse_vector
from calibri.errors import ArtifactError, LayoutError
from calibri.files import load_json, read_text

ENDINGS = (".json", ".txt", ".csv", ".tsv")  # of files with scales


def read_calibration(
    path: str | Path, sites: Sequence[Site] = (), *, backbone: str = "", round_to: str | None = None
) -> Calibration:
    """The calibration in a file, or in a repository `owner/name` of the hub; its title is that of the file's
    name where it has none.

    `sites`, `backbone`: of the backbone that a checkpoint or a vector is for, since such a file does not say
    it; they may be left out for files that do. `round_to`: as `read_official`. Raises ArtifactError with the
    path and what is wrong: also for names that are not those of its granularity, where the backbone is known.
    """
    path = locate(path)
    try:
        made = parse_calibration(
            read_text(path, LARGEST_FILE, ArtifactError), sites, backbone=backbone, round_to=round_to
        )
    except (ArtifactError, LayoutError) as error:
        raise ArtifactError(f"{path}: {error}") from error
    return made if made.title.strip() else made.model_copy(update={"title": path.stem[:60]})


def read_for_backbone(path: str | Path, backbone: str | Path) -> Calibration:
    """As `read_calibration`, for a backbone by its name, folder or hub id, which is not loaded for it: names
    are compared where its configuration lies here. Raises BackboneError for an unknown one."""
    from calibri.backbones.catalog import resolve
    from calibri.backbones.sites import sites_of_config

    spec = resolve(backbone)
    sites = () if spec.transformer is None else sites_of_config(*spec.transformer)
    return read_calibration(path, sites, backbone=spec.name)


def parse_calibration(
    text: str, sites: Sequence[Site] = (), *, backbone: str = "", round_to: str | None = None
) -> Calibration:
    """As `read_calibration`, from the text of a file. Raises ArtifactError or LayoutError."""
    text = text.lstrip("\ufeff").strip()
    content = _as_json(text)
    if is_official(content):
        if not sites:
            raise ArtifactError(
                "it is a checkpoint of the paper's code: name the backbone that it is for (--backbone)"
            )
        return from_official(content, sites, backbone=backbone, round_to=round_to)
    if isinstance(content, dict) and ("format" in content or not _is_vector(content)):
        made = Calibration.from_json(text)
        check_names(made, sites, backbone)
        return made
    if content is None and text[:1] == "{":
        return Calibration.from_json(text)  # says what is wrong with the JSON
    if not sites:
        raise ArtifactError(
            f"expected the format {FORMAT!r}, got plain text; for a vector of scales name the backbone that "
            "it is for"
        )
    return _from_vector(text, sites, backbone)


def is_official(content: Any) -> bool:
    """Whether parsed JSON is a checkpoint of the paper's own code."""
    return isinstance(content, dict) and "solution" in content and "shapes" in content


def check_names(made: Calibration, sites: Sequence[Site], backbone: str) -> None:
    """Raises LayoutError where the names are not those of this backbone at the calibration's granularity.
    Nothing is compared where it is for another backbone, unless that is one of the catalog.
    """
    if made.backbone not in ("", backbone) or not sites:
        sites = _known_sites(made.backbone)
    if sites:
        if not any(site.extra == "lora" for site in sites):
            made = made.without_loras()  # which are known once they are loaded
        made.on_layout(Layout.from_sites(sites, made.granularity))


def _known_sites(backbone: str) -> tuple[Site, ...]:
    """The sites of a backbone of the catalog; none for others."""
    from calibri.backbones.catalog import CATALOG
    from calibri.backbones.sites import sites_of_config

    spec = CATALOG.get(backbone)
    return () if spec is None or spec.transformer is None else sites_of_config(*spec.transformer)


def _as_json(text: str) -> Any:
    """Parsed JSON; None for what is none."""
    if text[:1] not in ("{", "["):
        return None
    try:
        return load_json(text)
    except ValueError:
        return None


def _is_vector(content: dict[str, Any]) -> bool:
    """Whether it is an object of names and numbers."""
    return bool(content) and all(
        isinstance(v, int | float) and not isinstance(v, bool) for v in content.values()
    )


def _from_vector(text: str, sites: Sequence[Site], backbone: str) -> Calibration:
    """One member, at the coarsest granularity whose names the text uses or whose number of scales it has."""
    layouts = [Layout.from_sites(sites, granularity) for granularity in GRANULARITIES]
    problems = []
    for layout in layouts:
        try:
            scales = parse_vector(text, layout)
        except LayoutError as error:
            problems.append(str(error))
            continue
        return Calibration(
            backbone=backbone,
            granularity=layout.granularity,
            names=layout.names,
            members=(Member(scales=scales),),
            found={"by": "a vector of scales"},
        )
    if all("numbers; got" in problem for problem in problems):
        counts = ", ".join(f"{len(layout)} ({layout.granularity})" for layout in layouts)
        got = problems[0].rpartition("; ")[2]
        raise LayoutError(f"expected as many numbers as there are scales: {counts}; {got}")
    raise LayoutError(problems[-1])
