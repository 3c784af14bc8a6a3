"""What can be set when the studio starts, and the only place that reads the environment.

Each setting is a field of `Settings` and one row of `OPTIONS`: its flag, its environment variable and its
help.
A flag wins over the environment, the environment over the default.
"""

from __future__ import annotations

import argparse
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from calibri.backbones.options import LoadOptions
from calibri.console import quiet_libraries
from calibri.errors import BackboneError, RewardError, sentence
from calibri.rewards.base import RewardLoading
from calibri.rewards.sources import WRITTEN, read_sources
from calibri.threads import shorten_thread_waits


@dataclass(frozen=True)
class Option:
    """One setting as a person meets it: `--flag VALUE`, or `variable=VALUE` in the environment."""

    field: str
    metavar: str | None  # None: a switch
    help: str
    many: bool = False  # the flag may be given several times; the environment has commas between

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
    Option(
        "archive",
        "FOLDER|OWNER/NAME",
        "where votes and studies are kept a second time, and brought back from into an empty data folder: a "
        "folder, or a private dataset of the hub",
    ),
    Option(
        "studies_key",
        "TEXT",
        "a secret from which a new data folder's key is made, so that raters and invite links are known "
        "again after a disk was emptied; 20 characters or more, best in the environment",
    ),
    Option("backbone", "NAME", "backbone to open with: a name of the catalogue, a hub id or a local folder"),
    Option("device", "DEVICE", "auto, cpu, cuda, cuda:1 or mps"),
    Option("dtype", "DTYPE", "auto, float32, bfloat16, float16, or mixed: float32 with products in bfloat16"),
    Option("offload", "HOW", "model, sequential or group: weights wait in main memory (CUDA)"),
    Option("quantisation", "KIND", "the transformer's weights in fewer bits, such as 8bit or torchao-int8"),
    Option("transformer", "FILE", "a .gguf or .safetensors file with the transformer's weights"),
    Option("vae_tiling", None, "decode pictures in tiles: less memory for large ones"),
    Option("vae_slicing", None, "decode pictures one by one: less memory for batches; always so on a CPU"),
    Option("attention", "BACKEND", "an attention backend of diffusers, such as native, flash or sage"),
    Option("compile", None, "compile the transformer's blocks: slower to start, faster from there on"),
    Option(
        "step_cache", "NAME[:N]", "taylorseer or pab: pictures faster and a little other; no searches then"
    ),
    Option(
        "lora",
        "FILE[:STRENGTH]",
        "a LoRA on the base; may be given several times, in the environment with commas between",
        many=True,
    ),
    Option("lora_blocks", None, "the strength of each LoRA in each block is a scale too"),
    Option(
        "reward_source",
        WRITTEN,
        "a folder or hub id for the weights of a reward; may be given several times, in the environment with "
        "commas between",
        many=True,
    ),
    Option("reward_device", "DEVICE", "of the rewards, such as cpu or cuda:1; auto is the backbone's"),
    Option("reward_dtype", "DTYPE", "of the rewards: auto, float32, bfloat16, float16, 8bit or 4bit"),
    Option("batch_size", "N", "most images in one batch; halved by itself when memory runs out"),
    Option("threads", "N", "processor threads for the model; 0 leaves it to PyTorch"),
    Option("queue", "N", "most visitors who may wait for a picture"),
    Option(
        "auth",
        "NAME:PASSWORD",
        "who may sign in, several separated by commas; prefer the environment to the flag",
    ),
    Option(
        "auth_file",
        "FILE",
        "who may sign in, one NAME:HASH a line, as `calibri studio hash-password NAME` prints it",
    ),
    Option(
        "demo",
        None,
        "public hosting: search, saving and model switching only for those who sign in; tighter limits",
    ),
    Option(
        "organisers",
        "NAMES",
        "hub accounts that organise this Space, separated by commas (default: its owner)",
    ),
    Option("rate", "N", "with --demo: most pictures a minute for each visitor; ten times that for all"),
    Option(
        "no_search",
        None,
        "render and vote only, where nothing can run in the background; set by itself on ZeroGPU",
    ),
    Option("share", None, "open a public link through Gradio's relay"),
    Option("root_path", "PATH", "path under which a reverse proxy serves the studio"),
    Option("host_name", "NAMES", "names under which people reach the studio, separated by commas"),
    Option("frame_from", "SITES", "sites that may show the studio in a frame, separated by commas"),
)

HUB = "https://huggingface.co"


class Settings(BaseModel):
    """Everything the studio can be told at its start. Frozen; unknown names are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    port: int = Field(7860, ge=0, le=65535)
    data: Path = Path("data")
    archive: str = ""
    studies_key: str = Field("", repr=False)
    backbone: str = Field("tabletop", min_length=1)
    device: str = "auto"
    dtype: str = "auto"
    offload: str = ""
    quantisation: str = ""
    transformer: str = ""
    vae_tiling: bool = False
    vae_slicing: bool = False
    attention: str = ""
    compile: bool = False
    step_cache: str = ""
    lora: str = ""
    lora_blocks: bool = False
    reward_source: str = ""
    reward_device: str = "auto"
    reward_dtype: str = "auto"
    batch_size: int = Field(8, ge=1, le=256)
    threads: int = Field(0, ge=0, le=1024)
    queue: int = Field(32, ge=1, le=10_000)
    auth: str = ""
    auth_file: str = ""
    demo: bool = False
    organisers: str = ""
    rate: int = Field(30, ge=1, le=100_000)
    no_search: bool = False
    share: bool = False
    root_path: str = ""
    host_name: str = ""
    frame_from: str = ""

    @property
    def reward_loading(self) -> RewardLoading:
        """How rewards are loaded unless a run says otherwise. Raises RewardError for what does not fit."""
        sources = read_sources([self.reward_source] if self.reward_source else [], "reward-source")
        return RewardLoading.read(sources, self.reward_device, self.reward_dtype)

    @property
    def load_options(self) -> LoadOptions:
        """How backbones are loaded unless somebody says otherwise. Raises BackboneError."""
        names = {each.name for each in fields(LoadOptions)} - {"loras"}
        given = {name: getattr(self, name) for name in names}
        return LoadOptions.from_json(given | {"loras": split_names(self.lora)})

    @property
    def accounts(self) -> list[tuple[str, str]]:
        """The (name, password) pairs of `auth`: the name ends at the first colon, `\\,` is a comma.

        Raises ValueError for a pair without a colon or an empty half; the text repeats no password.
        """
        pairs = []
        for part in filter(None, (p.strip() for p in re.split(r"(?<!\\),", self.auth))):
            name, colon, password = part.replace("\\,", ",").partition(":")
            if not (colon and name and password):
                raise ValueError(
                    "auth: expected NAME:PASSWORD pairs separated by commas; a comma within a password is "
                    "written \\, with a backslash in front"
                )
            pairs.append((name, password))
        return pairs

    @property
    def has_accounts(self) -> bool:
        """Whether somebody can sign in with a password."""
        return bool(self.auth.strip(", ") or self.auth_file)

    @property
    def organiser_names(self) -> list[str]:
        return split_names(self.organisers)

    @property
    def host_names(self) -> list[str]:
        return split_names(self.host_name.lower())

    @property
    def frame_sites(self) -> list[str]:
        return split_names(self.frame_from)

    @field_validator("studies_key")
    @classmethod
    def _check_key(cls, key: str) -> str:
        if key and len(key) < 20:
            raise ValueError(f"expected 20 characters or more, got {len(key)}")
        return key

    @field_validator("host_name")
    @classmethod
    def _check_names(cls, names: str) -> str:
        wrong = [n for n in split_names(names) if not re.fullmatch(r"[\w.-]+|\[[0-9a-fA-F:.]+\]", n)]
        if wrong:
            raise ValueError(f"expected names such as studio.example.org, got {wrong[0]}")
        return names

    @field_validator("frame_from")
    @classmethod
    def _check_sites(cls, sites: str) -> str:
        wrong = [s for s in split_names(sites) if not re.fullmatch(r"https?://(\*\.)?[\w.-]+(:(\d+|\*))?", s)]
        if wrong:
            raise ValueError(f"expected sites such as https://example.org, got {wrong[0]}")
        return sites


@dataclass(frozen=True)
class HubApp:
    """What a Space is given to let people sign in with a hub account (`hf_oauth: true` in its header)."""

    client_id: str
    client_secret: str = field(repr=False)
    provider: str = HUB
    scopes: str = "openid profile"
    host: str = ""  # of the Space; empty: that of the request


def read_hub_app(environment: Mapping[str, str] | None = None) -> HubApp | None:
    """The sign-in that the hub offers this Space; None elsewhere, or where the Space did not ask for it."""
    environment = os.environ if environment is None else environment
    name, secret = environment.get("OAUTH_CLIENT_ID", ""), environment.get("OAUTH_CLIENT_SECRET", "")
    if not (environment.get("SPACE_ID") and name and secret):
        return None
    return HubApp(
        name,
        secret,
        environment.get("OPENID_PROVIDER_URL", HUB).rstrip("/"),
        environment.get("OAUTH_SCOPES") or "openid profile",
        environment.get("SPACE_HOST", "").split(",")[0].strip(),
    )


def split_names(text: str) -> list[str]:
    """What commas separate, without spaces and empty parts."""
    return [part.strip() for part in text.split(",") if part.strip()]


def default_of(field: str) -> Any:
    return Settings.model_fields[field].default


def parser() -> argparse.ArgumentParser:
    """The command line of app.py."""
    made = argparse.ArgumentParser(
        prog="app.py", description="Calibri Studio: calibrate diffusion transformers, compare and vote."
    )
    add_options(made)
    return made


def add_options(command_line: argparse.ArgumentParser) -> None:
    """Every setting as an option of this command line."""
    command_line.epilog = (
        "Each option can also be given by the environment variable in brackets; the flag wins."
    )
    for option in OPTIONS:
        default = default_of(option.field)
        text = f"{option.help} [{option.variable}"
        text += "=1]" if option.metavar is None else f"; default {default}]" if default != "" else "]"
        if option.metavar is None:
            command_line.add_argument(
                option.flag, action="store_const", const="true", default=None, help=text
            )
        else:
            how: dict[str, Any] = {"action": "append"} if option.many else {}
            command_line.add_argument(option.flag, metavar=option.metavar, default=None, help=text, **how)


def read_settings(arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> Settings:
    """Settings from the command line of app.py, then the environment, then the defaults.

    Ends the program with a sentence (exit code 2) where a value does not fit.
    """
    command_line = parser()
    return choose_settings(vars(command_line.parse_args(arguments)), command_line, environment)


def choose_settings(
    given: Mapping[str, Any],
    command_line: argparse.ArgumentParser,
    environment: Mapping[str, str] | None = None,
) -> Settings:
    """Settings from what `command_line` parsed, then the environment, then the defaults.

    Ends the program as that command line does (exit code 2) where a value does not fit.
    """
    environment = os.environ if environment is None else environment
    values: dict[str, str] = {}
    if space := environment.get("SPACE_ID"):  # a hub Space is reached from outside its container
        values |= {"host": "0.0.0.0", "organisers": space.split("/")[0], "frame_from": HUB}
    if on_zero_gpu(environment):  # each call of the GPU is a short-lived process there
        values["no_search"] = "true"
    for option in OPTIONS:
        if given[option.field] is not None:
            value = given[option.field]
            values[option.field] = ",".join(value) if option.many else value
        elif environment.get(option.variable, "") != "":
            values[option.field] = environment[option.variable]
    try:
        settings = Settings.model_validate(values)
        if space and "demo" not in values and not settings.has_accounts:  # a copy that nobody has set up yet
            settings = settings.model_copy(update={"demo": True})
        _ = settings.accounts, settings.reward_loading, settings.load_options
    except ValidationError as error:
        command_line.error(sentence(error, hidden={"auth", "studies_key"}).replace("_", "-", 1))
    except (ValueError, RewardError, BackboneError) as error:
        command_line.error(str(error))
    return settings


def on_space(environment: Mapping[str, str] | None = None) -> bool:
    """Whether this is a Space of the hub."""
    return bool((os.environ if environment is None else environment).get("SPACE_ID"))


def on_zero_gpu(environment: Mapping[str, str] | None = None) -> bool:
    """Whether this is a Space that borrows GPUs, as the hub's package `spaces` tells it."""
    environment = os.environ if environment is None else environment
    return environment.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")


def quieten() -> None:
    """Before Gradio and the hub are imported: no telemetry, no version check, no network unless asked for."""
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    # Not Gradio's own folder, which other programs of this machine use too: this one is swept.
    mine = f"calibri-studio-{getattr(os, 'getuid', int)()}"
    os.environ.setdefault("GRADIO_TEMP_DIR", str(Path(tempfile.gettempdir()) / mine))
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    quiet_libraries(bars=False)


def use_threads(count: int) -> None:
    """Limit the processor threads of every numeric library, 0 leaves their number; idle ones sleep soon.
    Before torch is imported.
    """
    shorten_thread_waits()
    if count > 0:
        os.environ["OMP_NUM_THREADS"] = str(count)
        os.environ["MKL_NUM_THREADS"] = str(count)
