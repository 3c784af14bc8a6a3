"""What the model bar says of a backbone before it is loaded: the same as `calibri doctor`."""

from __future__ import annotations

from pathlib import Path

from calibri.backbones.advice import advise
from calibri.backbones.catalog import resolve
from calibri.backbones.machine import Gpu, Machine
from studio.core import Core
from studio.shell.advice import advice_html
from tests.tiny import tiny_flux

GB = 2**30
MACHINE = Machine("CPU", 2, 64 * GB, 0, (Gpu("Card", 16 * GB, "8.9"),), {"bitsandbytes": ""})


def test_the_bar_says_what_the_doctor_says(core: Core) -> None:
    shown = advice_html(core, "FLUX.1-dev", MACHINE)
    doctor = advise(resolve("FLUX.1-dev"), MACHINE)
    assert doctor.suggestion is not None and doctor.suggestion.words in shown
    assert "accept its licence at https://huggingface.co/black-forest-labs/FLUX.1-dev" in shown
    assert "pip install bitsandbytes" in shown


def test_a_folder_is_read_and_its_path_is_not_told(core: Core, tmp_path: Path) -> None:
    tiny_flux(tmp_path / "mine")
    assert "Suggested here: bfloat16: about" in advice_html(core, str(tmp_path / "mine"), MACHINE)
    (tmp_path / "mine/transformer/diffusion_pytorch_model.safetensors").unlink()
    broken = advice_html(core, str(tmp_path / "mine"), MACHINE)
    assert "expected its weights as safetensors" in broken and str(tmp_path) not in broken


def test_nothing_and_nonsense_say_little(core: Core) -> None:
    assert advice_html(core, " ", MACHINE) == "" == advice_html(core, None, MACHINE)
    assert "no backbone" in advice_html(core, "nonsense", MACHINE)
    assert "its size is not in this version" in advice_html(core, "somebody/a-model", MACHINE)
