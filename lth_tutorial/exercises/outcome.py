"""What a check returns, and how it calls a reader's function without ever raising."""

from __future__ import annotations

import html
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, repr=False)
class Check:
    """The outcome of a check; true in an `if` only where the answer passed.

    `passed` is None while there is nothing to check yet.
    """

    passed: bool | None
    message: str

    def __bool__(self) -> bool:
        return self.passed is True

    @property
    def _verdict(self) -> str:
        return {True: "✓ passed", False: "✗ not yet", None: "○ open"}[self.passed]

    def __repr__(self) -> str:
        return f"{self._verdict}: {self.message}"

    def _repr_html_(self) -> str:
        return f"<p><strong>{self._verdict}:</strong> {html.escape(self.message)}</p>"


class NothingReturned(Exception):
    """The reader's function returned None where a value was asked for."""


class NothingDone(Exception):
    """The reader's function returned None and left alone what it was to change in place."""


class ReaderError(Exception):
    """The reader's function raised something; the cause is the original exception."""


OPEN = Check(None, "not attempted yet")
NOTHING_RETURNED = Check(
    None, "not attempted yet: the function returns None. If it is written, `return` is missing."
)

NOTHING_DONE = Check(
    None,
    "not attempted yet: the model is as it was. If the function is written, it works on a copy: "
    "change the model that it is given.",
)


def as_number(answer: Any) -> float:
    """Return an answer as a number, NaN if it is none; True and False are none."""
    try:
        return math.nan if isinstance(answer, bool) else float(answer)
    except (TypeError, ValueError):
        return math.nan


def guarded(fn: Any, check: Callable[[Callable], str | None], passed: str) -> Check:
    """Run `check(call)`, which returns what is wrong or None, and turn any outcome into a `Check`.

    `call` is the reader's function; its exceptions become messages, its draws from PyTorch's
    global generator are undone.
    """
    if fn is None:
        return OPEN
    if not callable(fn):
        return Check(False, f"this check takes the function itself; got {type(fn).__name__}")

    def call(*arguments: Any) -> Any:
        try:
            return fn(*arguments)
        except Exception as error:
            raise ReaderError from error

    try:
        with torch.random.fork_rng(devices=[]):
            problem = check(call)
    except NothingReturned:
        return NOTHING_RETURNED
    except NothingDone:
        return NOTHING_DONE
    except ReaderError as wrapped:
        error = wrapped.__cause__
        if isinstance(error, NotImplementedError) and not _of_torch(error):
            return OPEN
        return Check(False, f"your function raised {type(error).__name__}: {error}")
    except Exception as error:  # an answer so odd that the check itself stumbles over it
        return Check(False, f"the answer has no usable form ({type(error).__name__}: {error})")
    return Check(True, passed) if problem is None else Check(False, problem)


def _of_torch(error: Exception) -> bool:
    """Return whether PyTorch raised it, for an operation that a type of tensor does not have."""
    return "not implemented for" in str(error)


def mask_problem(new: Any, old: Tensor) -> str | None:
    """Return what keeps `new` from being a mask shaped like `old`, if anything does."""
    if new is None:
        raise NothingReturned
    if not isinstance(new, Tensor):
        return f"a mask is a boolean tensor, True = kept; got {type(new).__name__}"
    if new.dtype != torch.bool:
        return f"a mask is boolean, True = kept; got a tensor of {new.dtype}"
    if new.shape != old.shape:
        return f"the mask has the weights' shape, {tuple(old.shape)}; got {tuple(new.shape)}"
    return None
