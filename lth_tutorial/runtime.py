"""The machine under the experiment: device, threads, progress bars, versions.

Every chapter's setup cell calls `limit_threads` and `pick_device`; nothing else in the package
chooses a device or a number of threads.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable

import torch

from lth_tutorial.safety.arguments import choose as choose
from lth_tutorial.safety.kinds import is_number as is_number
from lth_tutorial.safety.kinds import is_whole as is_whole
from lth_tutorial.safety.watch import seen

__version__ = "0.1.0"

__all__ = ["pick_device", "limit_threads", "versions"]


def pick_device() -> torch.device:
    """Return the first CUDA device if there is one, else the CPU.

    Call it once, at the top of a notebook or script. Functions of this package never choose a
    device; they follow the tensors they are given.
    """
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def check_device(device: torch.device | str) -> None:
    """Raise a ValueError unless numbers can be computed on a device, here and now.

    The reason is PyTorch's: no GPU, a driver that is too old for it, a GPU of another number.
    """
    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, TypeError, NotImplementedError, AssertionError) as error:
        first_sentence = str(error).partition("\n")[0].partition(". ")[0]
        raise ValueError(
            f"device {str(device)!r} does not work here ({first_sentence}); this machine has "
            f"{', '.join(_devices())}"
        ) from error


def _devices() -> list[str]:
    """Return the names of the devices that there are."""
    n = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return ["'cpu'", *(f"'cuda:{i}'" for i in range(n))]


def limit_threads(n: int = 1) -> None:
    """Use `n` CPU threads for PyTorch operations.

    The networks of the live cells are so small that a second thread costs more in
    synchronisation than it computes; replicates run in parallel instead.

    Raises:
        ValueError: if `n` is not a positive whole number.
    """
    if not is_whole(n) or n < 1:
        raise ValueError(f"the number of threads is a whole number of at least 1; got {n!r}")
    torch.set_num_threads(n)


def versions() -> dict[str, str]:
    """Return what a reader needs to know to repeat a run: package versions, system, device."""
    import numpy
    import pandas

    cuda = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none"
    return {
        "lth_tutorial": __version__,
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "pandas": pandas.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cuda_device": cuda,
    }


def in_book_build() -> bool:
    """Return whether the book is being built: then nothing may write to the error stream.

    The build sets the environment variable `LTH_TUTORIAL_BUILD`. Set it yourself to silence the
    progress bars in a script.
    """
    return os.environ.get("LTH_TUTORIAL_BUILD", "") not in ("", "0")


def in_notebook() -> bool:
    """Return whether a notebook kernel runs this code, not a script or a terminal."""
    # Whoever runs in a kernel has IPython loaded already.
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return getattr(shell, "kernel", None) is not None


def progress_bar(total: int, description: str):
    """Return a tqdm progress bar of `total` steps, for people only; a `Watch` sees it too.

    It is silent in the book build and where nobody watches (output that goes to a file).
    """
    from tqdm.auto import tqdm

    hidden = in_book_build() or not (in_notebook() or sys.stderr.isatty())
    return seen(tqdm(total=total, desc=description, disable=hidden, leave=False))


def tick(on_step: Callable[[], object], steps: int) -> None:
    """Report `steps` steps at once: those that need not be done again."""
    for _ in range(steps):
        on_step()
