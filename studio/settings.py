"""What can be set when the studio starts, and the only place that reads the environment.

Each setting is a field of `Settings` and one row of `OPTIONS`: its flag, its environment variable and its
help.
A flag wins over the environment, the environment over the default.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from calibri.errors import sentence
from calibri.threads import shorten_thread_waits

ROOT = Path(__file__).resolve().parent.parent
ASSETS = ROOT / "assets"


@dataclass(frozen=True)
class Option:
    """One setting as a person meets it: `--flag VALUE`, or `variable=VALUE` in the environment."""

    field: str
    metavar: str | None  # None: a switch
    help: str

    @property
    def flag(self) -> str:
        return "--" + self.field.replace("_", "-")

    @property
    def variable(self) -> str:
        return "CALIBRI_" + self.field.upper()


OPTIONS: tuple[Option, ...] = (
    Option("host", "ADDRESS", "address to listen on; 0.0.0.0 lets other machines in"),
    Option("port", "PORT", "port to listen on"),
    Option("data", "FOLDER", "folder for votes, saved calibrations and runs; made when first needed"),
    Option("backbone", "NAME", "backbone to open with: a name of the catalogue, a hub id or a local folder"),
    Option("device", "DEVICE", "auto, cpu, cuda, cuda:1 or mps"),
    Option("dtype", "DTYPE", "auto, float32, bfloat16 or float16"),
    Option("batch_size", "N", "most images in one batch; halved by itself when memory runs out"),
    Option("threads", "N", "processor threads for the model; 0 leaves it to PyTorch"),
    Option("queue", "N", "most visitors who may wait for a picture"),
    Option(
        "auth",
        "NAME:PASSWORD",
        "who may sign in, several separated by commas; prefer the environment to the flag",
    ),
    Option(
        "demo",
        None,
        "public hosting: search, saving and model switching only for those who sign in; tighter limits",
    ),
    Option("rate", "N", "with --demo: most pictures a minute for each visitor; ten times that for all"),
    Option(
        "no_search",
        None,
        "render and vote only, where nothing can run in the background; set by itself on ZeroGPU",
    ),
    Option("share", None, "open a public link through Gradio's relay"),
    Option("root_path", "PATH", "path under which a reverse proxy serves the studio"),
)


class Settings(BaseModel):
    """Everything the studio can be told at its start. Frozen; unknown names are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    port: int = Field(7860, ge=0, le=65535)
    data: Path = Path("data")
    backbone: str = Field("tabletop", min_length=1)
    device: str = "auto"
    dtype: str = Field("auto", pattern="^(auto|float32|bfloat16|float16)$")
    batch_size: int = Field(8, ge=1, le=256)
    threads: int = Field(0, ge=0, le=1024)
    queue: int = Field(32, ge=1, le=10_000)
    auth: str = ""
    demo: bool = False
    rate: int = Field(30, ge=1, le=100_000)
    no_search: bool = False
    share: bool = False
    root_path: str = ""

    @property
    def accounts(self) -> list[tuple[str, str]]:
        """The (name, password) pairs of `auth`. Raises ValueError for a pair without a colon or an empty
        half."""
        pairs = []
        for part in filter(None, (p.strip() for p in self.auth.split(","))):
            name, colon, password = part.partition(":")
            if not (colon and name and password):
                raise ValueError("auth: expected NAME:PASSWORD pairs separated by commas")
            pairs.append((name, password))
        return pairs


def default_of(field: str) -> Any:
    return Settings.model_fields[field].default


def parser() -> argparse.ArgumentParser:
    """The command line of app.py."""
    made = argparse.ArgumentParser(
        prog="app.py",
        description="Calibri Studio: calibrate diffusion transformers, compare and vote.",
        epilog="Each option can also be given by the environment variable in brackets; the flag wins.",
    )
    for option in OPTIONS:
        default = default_of(option.field)
        text = f"{option.help} [{option.variable}"
        text += "=1]" if option.metavar is None else f"; default {default}]" if default != "" else "]"
        if option.metavar is None:
            made.add_argument(option.flag, action="store_const", const="true", default=None, help=text)
        else:
            made.add_argument(option.flag, metavar=option.metavar, default=None, help=text)
    return made


def read_settings(arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> Settings:
    """Settings from the command line, then the environment, then the defaults.

    Ends the program with a sentence (exit code 2) where a value does not fit.
    """
    environment = os.environ if environment is None else environment
    command_line = parser()
    given = vars(command_line.parse_args(arguments))
    values: dict[str, str] = {}
    if environment.get("SPACE_ID"):  # a hub Space is reached from outside its container
        values["host"] = "0.0.0.0"
    if environment.get("SPACES_ZERO_GPU"):  # each call of the GPU is a short-lived process there
        values["no_search"] = "true"
    for option in OPTIONS:
        if given[option.field] is not None:
            values[option.field] = given[option.field]
        elif environment.get(option.variable, "") != "":
            values[option.field] = environment[option.variable]
    try:
        settings = Settings.model_validate(values)
        _ = settings.accounts
    except ValidationError as error:
        command_line.error(sentence(error, hidden={"auth"}).replace("_", "-", 1))
    except ValueError as error:
        command_line.error(str(error))
    return settings


def quieten() -> None:
    """Before Gradio and the hub are imported: no telemetry, no version check, no network unless asked for."""
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")


def use_threads(count: int) -> None:
    """Limit the processor threads of every numeric library, 0 leaves their number; idle ones sleep soon.
    Before torch is imported.
    """
    shorten_thread_waits()
    if count > 0:
        os.environ["OMP_NUM_THREADS"] = str(count)
        os.environ["MKL_NUM_THREADS"] = str(count)
