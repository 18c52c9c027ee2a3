"""The two cells with which every chapter starts: the only place where their text is written."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def repository() -> str:
    """Return the repository's address as pyproject.toml gives it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return project["urls"]["Repository"]


INSTALL_TAGS = ["remove-cell"]
# --no-deps: whatever the package needs is part of Colab, and its PyTorch must stay as it is.
INSTALL = f"""\
import subprocess
import sys

if "google.colab" in sys.modules:  # elsewhere the package is installed already
    source = "git+{repository()}"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, source], check=True)"""

SETUP_TAGS = ["hide-input"]
SETUP = """\
import lth_tutorial as lt

lt.limit_threads()
device = lt.pick_device()"""
