"""A long computation seen from outside: how far it is, and when it has to stop.

Who has only some minutes (a budget, a machine that will be taken away) puts a `Watch` around it.
Training looks at it between two steps; when it is time, it writes its checkpoint and raises
`Stopped`, so that nothing that was computed is lost. Without a watch, nothing happens.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

LOOK_EVERY_S = 0.2
"""Seconds between two looks at what costs more than reading a clock."""
WARM_S = 1.0
"""Seconds after which training is as fast as it gets."""


class Stopped(Exception):
    """A computation was asked to stop and left its working directory in order; says why."""


@dataclass
class Watch:
    """When to stop, and how far the computation is.

    Attributes:
        deadline: when to stop, by the clock of `time.monotonic`.
        reason: why to stop now; empty while there is no reason.
        judge: called with the watch now and then; what it returns, if anything, is the reason.
        total: steps that the progress bars announced, over all replicates.
        seen: of these, the steps that are done, now or in an earlier run.
        trained_at: from when on steps are timed, and how many had been seen then: what an earlier
            run left is read before, and the first steps take longer than others.
        announced: called when a progress bar has announced its steps.
    """

    deadline: float = math.inf
    reason: str = ""
    judge: Callable[[Watch], str] | None = None
    total: int = 0
    seen: int = 0
    trained_at: tuple[float, int] | None = None
    announced: Callable[[Watch], object] = lambda watch: None
    _looked: float = field(default=0.0, init=False)
    _warm: bool = field(default=False, init=False)

    def look(self) -> str:
        """Return why to stop now, or nothing."""
        now = time.monotonic()
        self._time_steps(now)
        if not self.reason and now >= self.deadline:
            self.reason = "the time is up"
        if not self.reason and self.judge is not None and now - self._looked >= LOOK_EVERY_S:
            self._looked = now
            self.reason = self.judge(self) or ""
        return self.reason

    def _time_steps(self, now: float) -> None:
        if self.trained_at is None:
            self.trained_at = now, self.seen
            return
        at, before = self.trained_at
        if not self._warm and now - at > WARM_S and self.seen > before:
            self._warm, self.trained_at = True, (now, self.seen)

    def seconds_per_step(self) -> float | None:
        """Return the seconds of a replicate's step so far; None before 20 steps, or 2 seconds."""
        if self.trained_at is None:
            return None
        at, before = self.trained_at
        steps, seconds = self.seen - before, time.monotonic() - at
        return seconds / steps if steps >= 20 or (steps and seconds >= 2) else None


_watch: Watch | None = None


@contextmanager
def watching(watch: Watch) -> Iterator[Watch]:
    """Let a watch see what is computed inside the context, and stop it."""
    global _watch
    before, _watch = _watch, watch
    try:
        yield watch
    finally:
        _watch = before


def current() -> Watch | None:
    """Return the watch that looks on, if there is one."""
    return _watch


def is_time() -> bool:
    """Return whether the computation is to stop now."""
    return _watch is not None and bool(_watch.look())


def stop() -> None:
    """Raise `Stopped` with the watch's reason; call it when everything is written."""
    raise Stopped(_watch.reason if _watch is not None else "stopped")


class Counted:
    """A progress bar whose steps the watch sees too, whether or not the bar shows."""

    def __init__(self, bar, watch: Watch) -> None:
        self.bar, self.watch = bar, watch
        watch.total += bar.total or 0
        watch.announced(watch)

    def update(self, steps: int = 1) -> None:
        """Move the bar."""
        self.watch.seen += steps
        self.bar.update(steps)

    def __enter__(self) -> Counted:
        self.bar.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.__exit__(*error)


def seen(bar):
    """Return a progress bar such that the watch, if there is one, sees its steps."""
    return bar if _watch is None else Counted(bar, _watch)


def until(path: Path) -> Callable[[Watch], str]:
    """Return a judge that stops once a file is there: how a process tells its workers."""
    return lambda watch: path.read_text() if path.exists() else ""
