"""How many values the parts of a pipeline hold, from the headers of its files alone. No torch."""

from __future__ import annotations

import math
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibri.errors import BackboneError, first_line
from calibri.files import explain, read_object, read_tensor_header

if TYPE_CHECKING:
    from calibri.backbones.catalog import BackboneSpec

_WEIGHTS = re.compile(r"(?:diffusion_pytorch_model|model)(?:-\d+-of-\d+)?\.safetensors")
_INDEX = re.compile(r"(?:diffusion_pytorch_model|model)\.safetensors\.index\.json")
_BLOCK = re.compile(r"(.*?\.\d+)\.")
_NO_MATRIX = re.compile(r"embed|shared|position")  # of names: looked up, not multiplied with
_ONE_TOKEN = re.compile(r"norm|mod|ada|time|temb|guidance")  # of names: read once, not by each token
_SIZES = {"I64": 8, "U64": 8, "I32": 4, "U32": 4, "I16": 2, "U16": 2}  # bytes; all others 1

Shape = tuple[int, ...]
Header = Mapping[str, tuple[str, Shape]]  # name of a tensor → (dtype as safetensors writes it, shape)


@dataclass(frozen=True)
class Part:
    """One part of a pipeline, in values. `matrix`: those that quantisation shrinks. `block`: of the largest
    block, which group offload brings at once; `rest`: outside of blocks. `leaf`: of the largest module, which
    sequential offload brings. `fixed`: bytes of what is no floating number, the same in every dtype."""

    name: str
    values: int
    matrix: int
    block: int
    rest: int
    leaf: int
    fixed: int = 0


@dataclass(frozen=True)
class Sizes:
    """A pipeline's parts, and what its activations follow from.

    `width`, `hidden`: of a token in the transformer's stream, and inside its widest branch. `blocks`: how
    many it has. `work`: values that every token is multiplied with. `token`: pixels of a token's side.
    `channels`: of the decoder at the picture's full size. `source`: where this is known from, in words.
    """

    parts: tuple[Part, ...]
    width: int
    hidden: int
    blocks: int
    work: int
    token: int = 16
    channels: int = 256
    source: str = ""
    notes: tuple[str, ...] = field(default=(), compare=False)

    @property
    def transformer(self) -> Part:
        return next(part for part in self.parts if part.name == "transformer")


def find_sizes(spec: BackboneSpec, *, ask_hub: bool = False) -> Sizes:
    """Of a folder, or of what lies in the hub's cache: from headers. `ask_hub`: of a hub id, from the headers
    there; a backbone of the catalogue else from the table of this version.

    Raises BackboneError for files that are missing or broken, for what the hub refuses, with what to do, and
    where nothing is known.
    """
    from calibri.backbones.catalog import is_catalogs
    from calibri.backbones.known_sizes import KNOWN

    if spec.is_local:
        return read_folder(Path(spec.source))
    cached = _find_cached(spec)
    if cached is not None:
        try:
            return read_folder(cached, "the headers in the hub's cache")
        except BackboneError:
            pass  # a download that was broken off
    known = KNOWN.get(spec.name.partition("+")[0]) if is_catalogs(spec) else None
    if ask_hub:
        try:
            return read_hub(spec.source, spec.revision)
        except BackboneError as error:
            if known is None:
                raise
            from dataclasses import replace

            return replace(known, notes=(str(error),))
    if known is None:
        raise BackboneError(
            f"{spec.name}: its size is not in this version's table. Name its folder, or its hub id "
            f"({spec.source}), which asks the hub"
        )
    return known


def read_folder(folder: Path, source: str = "the headers of its files") -> Sizes:
    """Of a pipeline in the hub's format. Raises BackboneError for weights that are missing or broken."""
    index = read_object(folder / "model_index.json", BackboneError)

    def read(part: str) -> Header | None:
        place = folder / part
        if not (place / "config.json").is_file():
            return None
        names = sorted(path.name for path in place.iterdir())
        header: dict[str, tuple[str, Shape]] = {}
        for name in _choose_files(part, names, lambda index: read_object(place / index, BackboneError)):
            if name not in names:
                raise BackboneError(
                    f"{part}: its index names {name}, which is not there: fetch {folder.name} once more"
                )
            header |= read_header(place / name)
        return header

    def config(part: str) -> dict[str, Any]:
        path = folder / part / "config.json"
        return read_object(path, BackboneError) if path.is_file() else {}

    return _summarise(index, read, config, source)


def read_header(path: Path) -> Header:
    """Names, dtypes and shapes in a safetensors file, of which nothing else is read. Raises BackboneError."""
    try:
        content = read_tensor_header(path)
    except (OSError, ValueError) as error:
        words = explain(error) if isinstance(error, OSError) else first_line(error)
        raise BackboneError(f"{path.name} cannot be read: {words}") from error
    return {name: (entry["dtype"], tuple(entry["shape"])) for name, entry in content.items()}


def read_hub(repo: str, revision: str | None = None) -> Sizes:
    """Of a repository on the hub: a few kilobytes of each file. Raises BackboneError that says what to do."""
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    api = HfApi()
    with _told(repo):

        def fetch(name: str) -> dict[str, Any]:
            return read_object(Path(hf_hub_download(repo, name, revision=revision)), BackboneError)

        try:  # first, because the list of files is asked for five times where there is no network
            index = fetch("model_index.json")
        except EntryNotFoundError as error:
            if isinstance(error, OSError):
                raise
            raise BackboneError(
                f"{repo} holds no diffusers pipeline: expected a model_index.json there"
            ) from error
        files = api.list_repo_files(repo, revision=revision)

        def read(part: str) -> Header | None:
            names = [name.partition("/")[2] for name in files if name.startswith(f"{part}/")]
            if "config.json" not in names:
                return None
            header: dict[str, tuple[str, Shape]] = {}
            for name in _choose_files(part, names, lambda index: fetch(f"{part}/{index}")):
                found = api.parse_safetensors_file_metadata(repo, f"{part}/{name}", revision=revision)
                header |= {key: (str(t.dtype), tuple(t.shape)) for key, t in found.tensors.items()}
            return header

        def config(part: str) -> dict[str, Any]:
            return fetch(f"{part}/config.json") if f"{part}/config.json" in files else {}

        return _summarise(index, read, config, "the headers of its files on the hub")


def _choose_files(part: str, names: Sequence[str], open_index: Callable[[str], dict[str, Any]]) -> list[str]:
    """The files that diffusers and transformers would load, without variants."""
    index = next(filter(_INDEX.fullmatch, names), None)
    if index is not None:
        shards = open_index(index).get("weight_map", {})
        return sorted(set(shards.values())) if isinstance(shards, dict) else []
    found = [name for name in names if _WEIGHTS.fullmatch(name)]
    if not found:
        raise BackboneError(f"{part}: expected its weights as safetensors, got {', '.join(names)[:200]}")
    return found


def _summarise(
    index: Mapping[str, Any],
    read: Callable[[str], Header | None],
    config: Callable[[str], dict[str, Any]],
    source: str,
) -> Sizes:
    parts, header = [], None
    for name, entry in index.items():
        if not isinstance(entry, list) or len(entry) != 2 or not all(entry):
            continue
        found = read(name)
        if found is not None:
            parts.append(measure_part(name, found))
            header = found if name == "transformer" else header
    if header is None:
        raise BackboneError(f"{index.get('_class_name')} has no transformer to calibrate")
    vae = config("vae")
    widths = [int(x) for x in vae.get("block_out_channels") or vae.get("decoder_block_out_channels") or ()]
    side = 2 ** (len(vae.get("dim_mult") or widths or [0] * 4) - 1)
    pack = int(config("transformer").get("patch_size") or 1) if "encoder_qkv_multiscales" in vae else 2
    base = int(vae.get("decoder_base_dim") or vae.get("base_dim") or 0)
    channels = 2 * base if base else (widths[min(1, len(widths) - 1)] if widths else 256)
    return measure_stream(header, tuple(parts), token=side * pack, channels=channels, source=source)


def measure_part(name: str, header: Header) -> Part:
    """Values of one part."""
    blocks: Counter[str] = Counter()
    leaves: Counter[str] = Counter()
    values = matrix = rest = fixed = 0
    for key, (dtype, shape) in header.items():
        count = math.prod(shape)
        if not dtype.startswith(("F", "BF")):
            fixed += count * _SIZES.get(dtype, 1)
            continue
        values += count
        leaves[key.rpartition(".")[0]] += count
        found = _BLOCK.match(key)
        if found is None:
            rest += count
        else:
            blocks[found[1]] += count
        if len(shape) == 2 and key.endswith(".weight") and not _NO_MATRIX.search(key):
            matrix += count
    largest = max(blocks.values(), default=0)
    return Part(name, values, matrix, largest, rest, max(leaves.values(), default=0), fixed)


def measure_stream(header: Header, parts: tuple[Part, ...], **more: Any) -> Sizes:
    """What activations follow from, by the shapes of the matrices in a transformer's blocks."""
    inside = {
        key: shape
        for key, (_, shape) in header.items()
        if len(shape) >= 2 and key.endswith(".weight") and _BLOCK.match(key) and not _ONE_TOKEN.search(key)
    }
    if not inside:
        raise BackboneError("the transformer has no blocks that are known here")
    width = Counter(shape[1] for shape in inside.values() if len(shape) == 2).most_common(1)[0][0]
    hidden = max((shape[0] for shape in inside.values() if shape[1] == width), default=width)
    blocks = {found[1] for key in inside if (found := _BLOCK.match(key))}
    work = sum(math.prod(shape) for shape in inside.values())
    return Sizes(parts, width, hidden, len(blocks), work, **more)


def _find_cached(spec: BackboneSpec) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(spec.source, "model_index.json", revision=spec.revision)
    return Path(found).parent if isinstance(found, str) else None


@contextmanager
def _told(repo: str) -> Iterator[None]:
    """The hub's errors as sentences that say what to do."""
    from huggingface_hub import constants
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    try:
        yield
    except GatedRepoError as error:
        raise BackboneError(explain_gate(repo, constants.ENDPOINT)) from error
    except RepositoryNotFoundError as error:
        raise BackboneError(
            f"{repo} is not on the hub, or private: sign in with `hf auth login` as an account that sees it"
        ) from error
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        if status in (401, 403):
            raise BackboneError(explain_gate(repo, constants.ENDPOINT)) from error
        raise BackboneError(f"{repo}: the hub answered {status or 'an error'}; try again later") from error
    except _network_errors() as error:
        raise BackboneError(f"{repo}: the hub cannot be reached ({type(error).__name__})") from error


def _network_errors() -> tuple[type[Exception], ...]:
    """What the hub's client lets through where there is no network: its versions use httpx or httpx2."""
    known = (sys.modules.get("httpx"), sys.modules.get("httpx2"))
    errors: list[type[Exception]] = [module.HTTPError for module in known if module is not None]
    return OSError, *errors


def explain_gate(repo: str, endpoint: str = "https://huggingface.co") -> str:
    """What to do about a model whose owner grants access."""
    return (
        f"{repo} is gated: accept its licence at {endpoint}/{repo}, then sign in on this machine with "
        "`hf auth login` (or set HF_TOKEN)"
    )
