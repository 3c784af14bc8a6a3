"""What a job of the hub runs: this library as it is here, and the same versions of what it needs."""

from __future__ import annotations

import io
import zipfile
from importlib import metadata
from pathlib import Path

import calibri
from calibri.assets import ASSETS
from calibri.search.config import SearchConfig

CODE = "code.zip"
IMAGE = "ghcr.io/astral-sh/uv:python3.12-bookworm"  # of the hub's own uv jobs
NEEDS = (
    "torch",
    "diffusers",
    "transformers",
    "accelerate",
    "safetensors",
    "sentencepiece",
    "huggingface_hub",
    "pydantic",
    "numpy",
    "scipy",
    "cma",
    "pillow",
)
# A file has this date whenever it is packed: the same code is the same file, which the hub keeps once.
DATE = (2020, 1, 1, 0, 0, 0)

#: What the job's Python runs: fetch the code from the visitor's repository, and go on there.
BOOT = """
import os, sys, tempfile, zipfile
from huggingface_hub import hf_hub_download
repo, token = os.environ["CALIBRI_REPO"], os.environ["HF_TOKEN"]
code = hf_hub_download(repo, "code.zip", repo_type="dataset", token=token)
folder = tempfile.mkdtemp()
zipfile.ZipFile(code).extractall(folder)
sys.path.insert(0, folder)
from calibri.search.hub_work import main
sys.exit(main())
"""


def list_requirements() -> tuple[str, ...]:
    """`name==version` of each package that a search needs, as they are installed here."""
    return tuple(f"{name}=={metadata.version(name).partition('+')[0]}" for name in NEEDS)


def make_command(requirements: tuple[str, ...]) -> list[str]:
    """The command of a job: an environment of these packages, and in it the code of the repository."""
    packages = [part for requirement in requirements for part in ("--with", requirement)]
    return ["uv", "run", "--no-project", "--python", "3.12", *packages, "python", "-c", BOOT]


def pack_code(config: SearchConfig) -> bytes:
    """This library as a zip file, with the assets that the search needs."""
    package = Path(calibri.__file__).parent
    folders = ["prompts"]
    if config.backbone == "tabletop":
        folders.append("tabletop")
    if any(name.startswith("tabletop") for name in config.reward_names):
        folders.append("rewards")
    files = {f"calibri/{path.relative_to(package).as_posix()}": path for path in package.rglob("*.py")}
    for folder in folders:
        inside = ASSETS / folder
        found = [path for path in inside.rglob("*") if path.is_file()]
        files |= {f"calibri/_assets/{path.relative_to(ASSETS).as_posix()}": path for path in found}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name in sorted(files):  # weights hardly become smaller
            how = zipfile.ZIP_DEFLATED if name.endswith(".py") else zipfile.ZIP_STORED
            archive.writestr(zipfile.ZipInfo(name, DATE), files[name].read_bytes(), how)
    return packed.getvalue()
