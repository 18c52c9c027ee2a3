"""One writer at a time: locks on working directories and on records.

Two runs that share a folder would take each other's files away. Whoever comes second waits a
moment, and is told then; whoever is killed holds nothing any more.
"""

from __future__ import annotations

import errno
import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from lth_tutorial.safety.arguments import Function
from lth_tutorial.safety.files import LOCK, remove_if_empty
from lth_tutorial.safety.warn import warn

WAIT_S = 60.0
"""Seconds to wait for another process that works in the same folder: it may be about to end, as
the workers of a run that was killed are."""

_NO_LOCKS = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK}
_NOT_WRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS}
_mine = threading.local()


def one_writer(function: Function) -> Function:
    """Let one process at a time call a function with the same `workdir`; others wait a moment."""

    @functools.wraps(function)
    def alone(*arguments, workdir=None, **options):
        with only_worker(workdir):
            return function(*arguments, workdir=workdir, **options)

    return cast(Function, alone)


@contextmanager
def only_worker(folder: str | Path | None, *, wait: float | None = None) -> Iterator[None]:
    """Keep a working directory to this process while the context lasts, or until it is killed.

    The lock lies in the folder. A call within a call that holds the same folder passes.

    Raises:
        RuntimeError: naming the folder, if another process (or thread) works in it for longer
            than `wait` seconds, by default `WAIT_S`.
        OSError: if the folder cannot be made.
    """
    if folder is None:
        yield
        return
    folder = Path(folder).absolute()
    there = folder.is_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(error.errno, f"cannot write ({error.strerror})", str(folder)) from error
    message = f"another run is writing {folder}; wait until it ends, or name another workdir"
    try:
        with _held(folder / LOCK, message, wait):
            yield
    finally:
        if not there:
            remove_if_empty(folder)


@contextmanager
def only_writer(path: str | Path, *, wait: float | None = None) -> Iterator[None]:
    """Keep a file to this process while the context lasts, or until it is killed.

    Raises:
        RuntimeError: naming the file, if another process writes it for longer than `wait` seconds.
        OSError: if its folder cannot be written.
    """
    path = Path(path).absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    message = f"another run is writing {path}; wait until it ends, or name another folder"
    with _held(path.with_name(f".{path.name}{LOCK}"), message, wait):
        yield


@contextmanager
def _held(lock: Path, message: str, wait: float | None) -> Iterator[None]:
    from filelock import FileLock, Timeout

    # However the folder was spelled: resolved only here, so that messages repeat what was given.
    lock = lock.parent.resolve() / lock.name
    mine = vars(_mine).setdefault("locks", set())
    if lock in mine:
        yield
        return
    try:
        while True:
            lock.parent.mkdir(parents=True, exist_ok=True)
            try:
                held = FileLock(lock).acquire(
                    timeout=WAIT_S if wait is None else wait, poll_interval=0.02
                )
            except FileNotFoundError:
                continue  # whoever held it has removed the empty folder meanwhile
            if lock.exists():
                break
            held.lock.release()  # or the lock
    except Timeout:
        raise RuntimeError(message) from None
    except (OSError, NotImplementedError) as error:
        number = getattr(error, "errno", errno.ENOSYS)
        if number not in _NO_LOCKS | _NOT_WRITABLE:
            raise
        if number in _NO_LOCKS:
            text = f"{lock.parent} cannot be locked: make sure that only one run writes there"
            warn(text)
        yield  # what cannot be written needs no lock; writing will say so
        return
    mine.add(lock)
    try:
        yield
    finally:
        mine.discard(lock)
        try:
            lock.unlink(missing_ok=True)
        finally:
            held.lock.release()


def once_per_workdir(folder: Path, text: str) -> bool:
    """Return whether a text is said for the first time in the outermost folder that is held."""
    held = [lock.parent for lock in vars(_mine).get("locks", ())]
    above = [each for each in held if folder.absolute().resolve().is_relative_to(each)]
    outermost = min(above, key=lambda each: len(each.parts), default=folder)
    told = vars(_mine).setdefault("told", set())
    if (outermost, text) in told:
        return False
    told.add((outermost, text))
    return True
