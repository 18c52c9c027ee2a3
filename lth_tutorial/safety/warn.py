"""Warnings that name the line of whoever called the package, however deep inside they arise.

A number of frames, as `warnings.warn` takes it, would be another one for each way in: public
functions have checks and locks around them, and call each other.
"""

from __future__ import annotations

import sys
import warnings

_ON_THE_WAY = {"lth_tutorial", "torch", "contextlib", "functools"}
"""Packages whose frames are passed over: ours, and what stands between frames of ours."""


def warn(message: str | Warning, category: type[Warning] = UserWarning) -> None:
    """Warn at the nearest line outside the package.

    Args:
        message: text, or a warning that was caught somewhere else.
        category: of a text.
    """
    frame, level = sys._getframe(1), 2
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in _ON_THE_WAY:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
