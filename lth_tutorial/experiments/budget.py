"""Times that people write: "90s", "8m", "1.5h"."""

from __future__ import annotations

import argparse
import math
import os
import re
from pathlib import Path

_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "": 60}


def seconds_of(text: str) -> float:
    """Return the seconds of a time such as "90s", "8m" or "1.5h"; a bare number is minutes.

    Raises:
        ArgumentTypeError: for anything else, or no time at all.
    """
    found = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*(s|m|min|h|)\s*", text)
    seconds = float(found[1]) * _UNITS[found[2]] if found else math.nan
    if not seconds > 0:
        raise argparse.ArgumentTypeError(
            f"a budget is a time above 0, like 90s, 8m or 1.5h; got {text!r}"
        )
    return seconds


def age_of_process() -> float:
    """Return the seconds since this process began, its imports included; 0 where unknown."""
    try:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        up = float(Path("/proc/uptime").read_text().split()[0])
        return max(0.0, up - ticks / os.sysconf("SC_CLK_TCK"))
    except (OSError, ValueError, IndexError):
        return 0.0


def in_words(seconds: float) -> str:
    """Return a time as people read it."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6_000 else f"{seconds / 3600:.1f} h"
