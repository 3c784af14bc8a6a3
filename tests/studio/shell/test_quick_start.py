"""Gradio is imported without writing stubs, and everything of it is there."""

import inspect
import subprocess
import sys

CODE = """
import inspect, pathlib
known, written = inspect.getfile, []
write = pathlib.Path.write_text
pathlib.Path.write_text = lambda self, *a, **k: written.append(self.name)
parsed = []
import ast
parse = ast.parse
ast.parse = lambda *a, **k: parsed.append(1) or parse(*a, **k)
from studio.shell.quick_start import import_gradio
import_gradio()
import gradio
assert inspect.getfile is known
assert not written, written
assert len(parsed) < 20, f"expected no sources of components to be parsed, got {len(parsed)}"
with gradio.Blocks() as app:
    field = gradio.Textbox()
    field.change(lambda text: text, field, field)
print(inspect.getfile(gradio.Textbox))
"""


def test_gradio_is_whole_without_its_stubs():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("textbox.py")
    assert inspect.isfunction(inspect.getfile)
