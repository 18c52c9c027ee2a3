"""What a check returns, and how it calls a reader's function without ever raising."""

from __future__ import annotations

import contextlib
import html
import inspect
import math
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
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

RETURNED_SOMETIMES = Check(
    False, "for some inputs your function returns None: every branch needs its `return`"
)
NOTHING_DONE = Check(
    None,
    "not attempted yet: the model is as it was. If the function is written, it works on a copy: "
    "change the model that it is given.",
)


class WrongArguments(ReaderError):
    """The reader's function cannot be called with the arguments that the exercise names."""


class StillOpen(Exception):
    """The reader's function returned `...`, as a stub does."""


def is_open(answer: Any) -> bool:
    """Return whether there is nothing to check: None, or the `...` of a stub."""
    return answer is None or answer is ...


def shown(answer: Any) -> str:
    """Return an answer as it is written, for a message: shortened, and whatever it is."""
    try:
        text = repr(answer)
    except Exception:
        return type(answer).__name__
    return text if len(text) <= 80 else f"{text[:60]}… ({type(answer).__name__})"


def as_number(answer: Any, *, text: bool = True) -> float:
    """Return an answer as a number, NaN if it is none; True and False are none.

    Numbers of NumPy and PyTorch count, single entries too, and so does "12,345" where an answer is
    typed; a function returns no text.
    """
    if isinstance(answer, (str, bytes)) and not text:
        return math.nan
    with contextlib.suppress(Exception):
        if hasattr(answer, "item"):
            answer = answer.item()
        if isinstance(answer, str) and re.fullmatch(r"\s*\d{1,3}(,\d{3})+\s*", answer):
            answer = answer.replace(",", "")
        if not isinstance(answer, bool):
            return float(answer)
    return math.nan


def as_truth(answer: Any) -> bool | None:
    """Return an answer as True or False, None if it is neither; NumPy's and PyTorch's count."""
    with contextlib.suppress(Exception):
        answer = answer.item() if hasattr(answer, "item") else answer
    return bool(answer) if isinstance(answer, (bool, int)) and answer in (0, 1) else None


def as_tensor(answer: Any) -> Tensor | None:
    """Return an answer as a tensor, None if it is none; arrays, lists and generators count too."""
    with contextlib.suppress(Exception):
        answer = list(answer) if isinstance(answer, Iterator) else answer
        if isinstance(answer, (Tensor, np.ndarray, list, tuple)):
            return torch.as_tensor(answer).detach().cpu()
    return None


def on_copies(call: Callable, *tensors: Tensor) -> tuple[Any, bool]:
    """Call a reader's function with copies of tensors.

    Returns:
        its answer, and whether the copies are still as they were.

    Raises:
        NothingReturned: if the answer is None.
    """
    copies = [tensor.clone() for tensor in tensors]
    answer = call(*copies)
    if answer is None:
        raise NothingReturned
    return answer, all(map(torch.equal, copies, tensors))


def close(answer: Any, right: Any, *, atol: float = 1e-6, rtol: float = 1e-5) -> bool:
    """Return whether two tensors hold about the same numbers, whatever their precision."""
    a, b = (torch.as_tensor(each).detach().cpu().double() for each in (answer, right))
    return a.shape == b.shape and torch.allclose(a, b, atol=atol, rtol=rtol)


@contextlib.contextmanager
def _undone() -> Iterator[None]:
    """Give the reader's state back as it was: random generators, gradients, device, number type."""
    python, numpy, dtype = random.getstate(), np.random.get_state(), torch.get_default_dtype()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    try:
        torch.set_default_dtype(torch.float32)
        with torch.random.fork_rng(list(devices)), torch.enable_grad(), torch.device("cpu"):
            yield
    finally:
        torch.set_default_dtype(dtype)
        random.setstate(python)
        np.random.set_state(numpy)


def guarded(fn: Any, check: Callable[[Callable], str | None], passed: str) -> Check:
    """Run `check(call)`, which returns what is wrong or None, and turn any outcome into a `Check`.

    `call` is the reader's function; its exceptions become messages, and what it does to random
    generators and to PyTorch's global settings is undone.
    """
    if is_open(fn):
        return OPEN
    if not callable(fn):
        return Check(False, f"this check takes the function itself; got {type(fn).__name__}")

    returned = False

    def call(*arguments: Any) -> Any:
        nonlocal returned
        try:
            value = fn(*arguments)
        except TypeError as error:
            if _misfit(fn, arguments):
                raise WrongArguments(len(arguments)) from error
            raise ReaderError from error
        except (Exception, SystemExit) as error:
            raise ReaderError from error
        if value is ...:
            raise StillOpen
        returned = returned or value is not None
        return value

    try:
        with _undone():
            problem = check(call)
    except NothingReturned:
        return RETURNED_SOMETIMES if returned else NOTHING_RETURNED
    except NothingDone:
        return NOTHING_DONE
    except StillOpen:
        return OPEN
    except ReaderError as wrapped:
        error = wrapped.__cause__
        if isinstance(error, NotImplementedError) and not _of_torch(error):
            return OPEN
        hint = _hint(error)
        if isinstance(wrapped, WrongArguments):
            n = wrapped.args[0]
            hint = f"the check passes {n} argument{'s'[: n - 1]}, those that the exercise names: "
        return Check(False, f"{hint}your function raised {type(error).__name__}: {error}")
    except Exception as error:  # an answer so odd that the check itself stumbles over it
        return Check(False, f"the answer has no usable form ({type(error).__name__}: {error})")
    return Check(True, passed) if problem is None else Check(False, problem)


_HINTS = (
    ("leaf Variable that requires grad", "change parameters inside `with torch.no_grad():`. "),
    ("shape of the mask", "a boolean index must have the size of the dimension that it picks "
     "from: which dimension of this tensor do the entries belong to? "),
    ("call numpy() on Tensor that requires grad", "`.detach()` a tensor before `.numpy()`. "),
    ("does not require grad", "a derivative needs `requires_grad_()` on what it is taken by, "
     "before the loss is computed from it. "),
    ("for 'Bool'", "masks are combined with `&`, `|` and `~`; to add or multiply, make them "
     "numbers with `.float()`. "),
    ("bool tensor is not supported", "`~mask` inverts a mask; a minus does not. "),
    ("with more than one value is ambiguous", "a comparison of tensors is a tensor of truths: "
     "`.all()` or `.any()` makes one of them. "),
    ("size mismatch for", "a mask sets weights to zero and leaves the shape of a tensor alone. "),
    ("broadcast shape", "these two tensors do not belong to the same layer. "),
    ("must match the size", "the shapes of two tensors do not fit: which dimension belongs to "
     "which? "),
    ("StopIteration", "nothing was found: `next(…, None)` returns None then. "),
)  # fmt: skip


def _misfit(fn: Callable, arguments: tuple) -> bool:
    """Return whether a function cannot be called with so many arguments."""
    try:
        inspect.signature(fn).bind(*arguments)
    except ValueError:  # a built-in function that does not say what it takes
        return False
    except TypeError:
        return True
    return False


def _hint(error: BaseException) -> str:
    """Return what a frequent error of PyTorch asks for, in words that help."""
    said = f"{type(error).__name__}: {error}"
    return next((hint for text, hint in _HINTS if text in said), "")


def _of_torch(error: Exception) -> bool:
    """Return whether PyTorch raised it, for an operation that a type of tensor does not have."""
    said = ("not implemented for", "not supported", "Could not run", 'the required "forward"')
    return any(text in str(error) for text in said)


def mask_problem(new: Any, old: Tensor, *, one_of_several: bool = False) -> str | None:
    """Return what keeps `new` from being a mask shaped like `old`, if anything does."""
    if new is None and not one_of_several:
        raise NothingReturned
    if not isinstance(new, Tensor):
        return f"a mask is a boolean tensor, True = kept; got {type(new).__name__}"
    if new.dtype != torch.bool:
        return f"a mask is boolean, True = kept; got a tensor of {new.dtype}"
    if new.shape != old.shape:
        return f"the mask has the weights' shape, {tuple(old.shape)}; got {tuple(new.shape)}"
    return None
