"""The scales of a calibration for other programs: as text, table or JSON. No torch."""

from __future__ import annotations

import json

from calibri.calibration.artifact import Calibration
from calibri.errors import ArtifactError

FORMS = ("text", "csv", "json")


def write_scales(calibration: Calibration, form: str, member: int = 1) -> str:
    """The scales of one member, counted from 1, in one of FORMS. Raises ArtifactError for another member."""
    if not 1 <= member <= len(calibration.members):
        raise ArtifactError(f"expected a member from 1 to {len(calibration.members)}, got {member}")
    pairs = list(zip(calibration.names, calibration.members[member - 1].scales, strict=True))
    if form == "json":
        return json.dumps(dict(pairs), indent=1) + "\n"
    if form == "csv":
        return "name,scale\n" + "".join(f"{name},{scale!r}\n" for name, scale in pairs)
    head = f"# {' '.join(calibration.title.split()) or 'calibration'}, {calibration.granularity}\n"
    return head + "".join(f"{name} = {scale!r}\n" for name, scale in pairs)
