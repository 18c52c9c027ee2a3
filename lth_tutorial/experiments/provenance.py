"""How rows come about: commit, versions and device."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from pathlib import Path

from lth_tutorial.data.dataset import Dataset
from lth_tutorial.runtime import versions


def circumstances(data: Dataset) -> dict:
    """Return commit, versions, device and date of a run, and the fingerprint of its data."""
    return {
        "commit": commit(),
        "versions": versions(),
        "device": device_name(data),
        "date": datetime.date.today().isoformat(),
        "fingerprint": data.fingerprint,
    }


def commit() -> str:
    """Return the commit that the package's code is at, marked if it has uncommitted changes.

    The environment variable `LTH_TUTORIAL_COMMIT` says it where it is set, and wins: a copy that
    was sent to another machine has no repository, or one that is at another commit.
    """
    if said := os.environ.get("LTH_TUTORIAL_COMMIT", ""):
        return f"{said} as LTH_TUTORIAL_COMMIT says"
    package = Path(__file__).parent.parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(package), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")  # else it is another project's repository
        changed = git("status", "--porcelain", "--", "*.py")
        return git("rev-parse", "HEAD") + (" with changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def device_name(data: Dataset) -> str:
    """Return the name of the GPU or processor that the data lie on."""
    return device_at_hand(data.device.type)


def device_at_hand(kind: str) -> str:
    """Return the name of this machine's GPU ("cuda") or processor ("cpu")."""
    if kind.startswith("cuda"):
        return versions()["cuda_device"]
    names = Path("/proc/cpuinfo")
    lines = names.read_text().splitlines() if names.is_file() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"CPU ({models[0] if models else platform.machine()})"
