"""The package's own files: written whole or not at all, checked when read, and nobody else's.

Runs, records, masks and tickets are written through this module. Whatever moment a kill comes,
either what stood there before or what is to stand there is whole. Only files that the package made
are ever removed, by their exact names; what else lies in a folder is its owner's.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

LOCK, _PART = ".lth-lock", ".lth-part"
_OF_RUNS = r"identity\.json|rows\.json|progress\.safetensors|result-\d+\.safetensors"
_OURS = re.compile(rf"{_OF_RUNS}|{re.escape(LOCK)}|\.({_OF_RUNS})\.\w{{8}}{re.escape(_PART)}")


class UncheckedFileWarning(UserWarning):
    """A file has no checksum, because an earlier version wrote it; it is taken as it stands."""


def write_atomically(path: str | Path, content: bytes) -> None:
    """Write a file so that it appears whole or not at all, whatever happens meanwhile.

    Where a link stands, the file that it leads to is written, and the link stays.

    Raises:
        OSError: naming the file, if it cannot be written (a full or read-only disk, say); what was
            there before is still there.
    """
    path, temporary = Path(os.path.realpath(path)), None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _write_part(path, content)
        os.replace(temporary, path)
    except BaseException as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OSError(
                error.errno, f"cannot write ({error.strerror or error})", str(path)
            ) from error
        raise


def _write_part(path: Path, content: bytes) -> str:
    """Write a new file beside `path`, and return its name; nothing is left if that fails."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=_PART)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # mkstemp keeps the file to its owner
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return temporary


def check_writable(folder: str | Path) -> None:
    """Raise an OSError, naming the folder, unless files can be written there; nothing is left."""
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
        os.unlink(_write_part(path / "probe", b""))
    except OSError as error:
        raise OSError(error.errno, f"cannot write ({error.strerror})", str(path)) from error


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed process left half written; the caller is the folder's only writer."""
    for path in folder.glob(f".*{_PART}"):
        if _OURS.fullmatch(path.name):
            path.unlink(missing_ok=True)


def remove_run(folder: Path, *, also: str = "") -> None:
    """Remove the files of runs below a folder, and the folders that are empty then.

    Whatever else stands there stays, and so do the folders around it.

    Args:
        also: a pattern of further names that the caller has written.
    """
    ours = re.compile(f"{_OURS.pattern}|{also}") if also else _OURS
    for place, _, names in os.walk(folder, topdown=False):
        # A folder says last whose it is.
        for name in sorted(filter(ours.fullmatch, names), key=lambda name: name[0] == "i"):
            Path(place, name).unlink(missing_ok=True)
        remove_if_empty(Path(place))


def remove_if_empty(folder: Path) -> None:
    """Remove a folder unless something is in it."""
    try:
        folder.rmdir()
    except OSError:
        pass


def set_aside(path: Path) -> Path | None:
    """Rename a file that cannot be used, so that writing in its place loses nothing.

    Returns the new name, or None where the folder cannot be changed.
    """
    number, aside = 1, path.with_name(f"{path.name}.damaged")
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.damaged-{number}")
    try:
        os.replace(path, aside)
    except OSError:
        return None
    return aside


def read_tensors(source: str | Path | bytes) -> tuple[dict[str, str] | None, dict[str, Tensor]]:
    """Return metadata (None if there is none) and tensors of a safetensors file, or of its bytes.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, or no safetensors file.
    """
    from safetensors.torch import load

    raw = source if isinstance(source, bytes) else Path(source).read_bytes()
    where = "it" if isinstance(source, bytes) else str(source)
    try:
        tensors = load(raw)
        header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
        return header.get("__metadata__"), tensors
    except Exception as error:  # of several kinds, according to where a bit has turned
        raise ValueError(f"{where} is damaged or not a safetensors file: {error}") from error


def as_safetensors(tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> bytes:
    """Return the bytes of a safetensors file; tensors may share memory, and lie anywhere."""
    from safetensors.torch import save

    own = {name: t.detach().to("cpu", copy=True).contiguous() for name, t in tensors.items()}
    return save(own, metadata)


def read_json(source: str | bytes) -> object:
    """Return what a text in JSON says.

    Raises:
        ValueError: if it is none, or one that is nested too deeply.
    """
    try:
        return json.loads(source)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def sealed(header: Mapping) -> dict[str, str]:
    """Return metadata for a safetensors file: a header as JSON, and its checksum."""
    text = json.dumps(header)
    return {"header": text, "sha256": hashlib.sha256(text.encode()).hexdigest()}


def unsealed(metadata: Mapping[str, str] | None) -> dict | None:
    """Return the header that `sealed` put into metadata, or None if there is none at all.

    Raises:
        ValueError: if the header was altered.
    """
    if not metadata:
        return None
    text = metadata.get("header", "")
    if hashlib.sha256(text.encode()).hexdigest() != metadata.get("sha256"):
        raise ValueError("its header was altered")
    header = read_json(text)
    if not isinstance(header, dict):
        raise ValueError("its header is no JSON object")
    return header
