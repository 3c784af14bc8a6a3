"""What our own modules call must not be deprecated; what other packages do among themselves is theirs."""

from __future__ import annotations

import warnings

import pytest

from calibri.sampling.prompts import PromptCache

KINDS = (DeprecationWarning, FutureWarning)


class OldAdapter:
    """Its `encode` warns whoever calls it, as packages do."""

    def __init__(self, kind: type[Warning]) -> None:
        self.kind = kind

    def encode(self, prompt: str, negative: bool = False) -> dict:
        warnings.warn("encode will go", self.kind, stacklevel=2)
        return {}


def call_from(module: str, kind: type[Warning]) -> None:
    """Calls something deprecated from a module of this name."""
    exec("encode('')", {"__name__": module, "encode": OldAdapter(kind).encode})


@pytest.mark.parametrize("kind", KINDS)
def test_a_deprecated_call_by_a_module_of_ours_is_an_error(kind):
    with pytest.raises(kind, match="encode"):
        PromptCache(OldAdapter(kind)).get("a red ball")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("module", ["calibri", "calibri.search.run", "studio.core.db", "app", __name__])
def test_wherever_among_our_modules_it_is(module, kind):
    with pytest.raises(kind):
        call_from(module, kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("module", ["torch.nn", "calibrite", "another.calibri.package", "gradio.app"])
def test_what_other_packages_call_is_not(module, kind):
    call_from(module, kind)
