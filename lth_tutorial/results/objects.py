"""Where finished tasks lie: a folder, or a bucket (any place that fsspec can write).

Every object has a name of its own and is written once, whole, without a lock, so that any number
of machines can write into one place.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from lth_tutorial.safety.files import check_writable, write_atomically


def is_remote(place: str | Path) -> bool:
    """Return whether a place is a bucket or another URL, not a folder of this machine."""
    return "://" in str(place)


def names_of(place: str | Path, suffix: str) -> list[str]:
    """Return the names of the objects with a suffix, sorted; none if there is no such place."""
    if not is_remote(place):
        folder = Path(place)
        return sorted(p.name for p in folder.glob(f"*{suffix}") if not p.name.startswith("."))
    system, root = _system(place)
    if not system.exists(root):
        return []
    paths = (str(path) for path in system.ls(root, detail=False, refresh=True))
    return sorted(path.rpartition("/")[2] for path in paths if path.endswith(suffix))


def read_object(place: str | Path, name: str) -> bytes:
    """Return the content of an object.

    Raises:
        OSError: naming the place, if it cannot be read.
    """
    if not is_remote(place):
        return (Path(place) / name).read_bytes()
    system, root = _system(place)
    return system.cat_file(f"{root}/{name}")


def write_object(place: str | Path, name: str, content: bytes) -> None:
    """Write an object so that it appears whole or not at all.

    Raises:
        OSError: naming the place, if it cannot be written.
    """
    if not is_remote(place):
        write_atomically(Path(place) / name, content)
        return
    system, root = _system(place)
    try:
        system.pipe_file(f"{root}/{name}", content)
    except Exception as error:  # every file system has its own
        raise OSError(f"cannot write {place}/{name} ({error})") from error


def check_place(place: str | Path) -> None:
    """Raise an OSError or ValueError, naming the place, unless objects can be written there."""
    if not is_remote(place):
        check_writable(place)
        return
    name = f".can-this-be-written-{secrets.token_hex(8)}"
    write_object(place, name, b"")
    system, root = _system(place)
    system.rm_file(f"{root}/{name}")


def _system(place: str | Path):
    """Return the file system of a URL, and the path there.

    Raises:
        ValueError: if fsspec, or what it needs for this kind of place, is not installed.
    """
    kind = str(place).partition("://")[0]
    try:
        import fsspec

        system, root = fsspec.core.url_to_fs(str(place))
    except ImportError as error:
        raise ValueError(
            f"{place} needs fsspec and its package for {kind}:// "
            f"(pip install 'lth-tutorial[cluster]'; for s3:// also s3fs): {error}"
        ) from error
    except ValueError as error:
        raise ValueError(f"{place} is no place that can be written: {error}") from error
    return system, root.rstrip("/")
