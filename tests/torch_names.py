"""Which names of torch this code uses, and whether another version of torch has them, without installing it.

    python -m tests.torch_names WHEEL...    # of torch; tells the names that are missing there

ZeroGPU runs torch 2.8 to 2.11 (requirements.txt); development and CI run the one of constraints.txt. The
names in tests/data/torch-names.txt were found in the wheels of both ends of that range, 2.8.0 and 2.11.0.
"""

from __future__ import annotations

import ast
import sys
import zipfile
from pathlib import Path

from tests.house import ROOT, SOURCES, parse

LIST = ROOT / "tests" / "data" / "torch-names.txt"


def list_names() -> list[str]:
    """Dotted names below torch that the code reaches."""
    found: set[str] = set()
    for path in SOURCES:
        tree = parse(path)
        aliases = {"torch": "torch"}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    if alias.name.split(".")[0] == "torch":
                        found.add(alias.name)
                        aliases[alias.asname or "torch"] = alias.name if alias.asname else "torch"
            elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "torch":
                for alias in node.names:
                    found.add(f"{node.module}.{alias.name}")
                    aliases[alias.asname or alias.name] = f"{node.module}.{alias.name}"
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and (dotted := _dotted(node)):
                head, _, rest = dotted.partition(".")
                if head in aliases:
                    found.add(f"{aliases[head]}.{rest}")
    return sorted(found)


def _dotted(node: ast.expr) -> str:
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else ""


class Wheel:
    """The Python and stub files of a wheel of torch."""

    def __init__(self, path: Path) -> None:
        self._files = zipfile.ZipFile(path)
        self._there = set(self._files.namelist())
        self._known: dict[str, set[str]] = {}

    def names_in(self, module: str) -> set[str]:
        """What a module defines or imports at any depth of its file, and its submodules."""
        if module not in self._known:
            stem = module.replace(".", "/")
            found: set[str] = set()
            self._known[module] = found
            for name in (f"{stem}.py", f"{stem}.pyi", f"{stem}/__init__.py", f"{stem}/__init__.pyi"):
                if name in self._there:
                    tree = ast.parse(self._files.read(name))
                    found |= _defined(tree)
                    for node in ast.walk(tree):  # from X import *
                        if isinstance(node, ast.ImportFrom) and any(a.name == "*" for a in node.names):
                            base = node.module or ""
                            if node.level:
                                base = f"{module}.{base}".rstrip(".")
                            if base.startswith("torch"):
                                found |= self.names_in(base)
            prefix = f"{stem}/"
            inside = [name.removeprefix(prefix) for name in self._there if name.startswith(prefix)]
            found |= {name.split("/")[0].removesuffix(".py").removesuffix(".pyi") for name in inside}
            if module == "torch":  # its functions come from here, by name, when it is imported
                found |= self.names_in("torch._C._VariableFunctions") | self.names_in("torch._C")
        return self._known[module]

    def is_module(self, module: str) -> bool:
        stem = module.replace(".", "/")
        ends = (".py", ".pyi", "/__init__.py", "/__init__.pyi")
        return any(f"{stem}{end}" in self._there for end in ends)

    def has(self, name: str) -> bool:
        """Whether the first part below the last module of a dotted name is there."""
        parts = name.split(".")
        module = "torch"
        for place in range(1, len(parts)):
            longer = ".".join(parts[: place + 1])
            if not self.is_module(longer):
                return parts[place] in self.names_in(module)
            module = longer
        return True


def _defined(tree: ast.AST) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.alias):
            found.add((node.asname or node.name).split(".")[0])
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
            found.add(node.value)  # __all__
    return found


def main() -> int:
    """Returns 1 where a name is missing."""
    missing = 0
    for path in map(Path, sys.argv[1:]):
        wheel = Wheel(path)
        absent = [name for name in list_names() if not wheel.has(name)]
        missing += len(absent)
        print(f"{path.name}: {len(list_names())} names, missing: {', '.join(absent) or 'none'}")
    return int(bool(missing))


if __name__ == "__main__":
    sys.exit(main())
