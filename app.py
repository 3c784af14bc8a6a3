"""Start Calibri Studio: `python app.py`, then open the printed address. `python app.py --help` shows the
options."""

from __future__ import annotations

import sys

from studio.settings import read_settings
from studio.shell.start import run_studio

if __name__ == "__main__":
    sys.exit(run_studio(read_settings(sys.argv[1:])))
