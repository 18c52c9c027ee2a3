"""Whose a folder is: the configuration that a working directory belongs to, as text.

Everything that decides what a run computes stands in the folder's `identity.json`: data, settings,
the structure of the network, its initial weights. Any other run is refused there.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, asdict, fields, is_dataclass
from pathlib import Path

import torch

from lth_tutorial.runtime import __version__
from lth_tutorial.safety.files import read_json, set_aside, write_atomically
from lth_tutorial.safety.kinds import as_python
from lth_tutorial.safety.locks import once_per_workdir
from lth_tutorial.safety.warn import warn

_NOT_COMPARED = ("written_by", "checksum")  # of identity.json
_CODE, _LIBRARIES = "\ncode: ", ("torch", "lth_tutorial", "builtins")


# Where the modules of version 0.1.0 stand now. Working directories name functions by module.
MOVED = {
    "data": ("corruption", ("dataset", "data"), ("sources", "datasets")),
    "networks": (("build", "models"), ("architectures", "networks"), "transformer", "layers"),
    "pruning": ("masks", "ranking", ("prune", "pruning"), "schedules"),
    "training": ("config", ("loop", "training"), "steps", "groups", "replicates", "evaluation"),
    "tickets": ("lottery", "arms", "measures", "before_training", "retraining", "together"),
    "stability": ("connectivity", "instability", "landscape", "rewinding"),
}


class DamagedFileWarning(UserWarning):
    """A file of a working directory was torn or altered; its content is computed anew."""


class VersionWarning(UserWarning):
    """A run goes on that another version of PyTorch or of this package began."""


def claim_folder(folder: str | Path, identity: Mapping) -> str:
    """Make a folder the place of one configuration; return the configuration's digest.

    Raises:
        ValueError: if the folder belongs to another configuration; says in what they differ.
        OSError: if the folder cannot be written.

    Warns:
        VersionWarning: if another version of PyTorch or of the package began the run.
        DamagedFileWarning: if what stood there about the folder cannot be read.
    """
    path, now = Path(folder) / "identity.json", json.loads(_as_text(identity))
    there = _read_identity(path)
    if there is None:
        content = now | {"written_by": _versions()}
        content["checksum"] = _digest(content)
        write_atomically(path, json.dumps(content, indent=1, sort_keys=True).encode())
        return identity_digest(identity)
    written = {key: value for key, value in there.items() if key not in _NOT_COMPARED}
    known = _as_written_today(written, identity)
    keys = sorted(k for k in {*known, *now} if not _is_same(known.get(k), now.get(k)))
    if keys:
        differing = "; ".join(f"{k}: {known.get(k)!r} there, {now.get(k)!r} here" for k in keys)
        raise ValueError(
            f"{folder} belongs to a run of another configuration ({differing}); name another "
            f"workdir, or delete that one"
        )
    _tell_of_versions(Path(folder), there.get("written_by"))
    # The digest that its files carry is that of the text as it was written, by whichever version.
    return identity_digest(written)


def warn_of_damage(path: Path, reason: object) -> None:
    """Put a file aside that cannot be used, and say so; its content is computed anew."""
    aside = set_aside(path)
    kept = f" and kept as {aside.name}" if aside else ""
    text = f"{path} is damaged ({reason}){kept}; its content is computed anew"
    warn(text, DamagedFileWarning)


def describe_model(model: torch.nn.Module) -> str:
    """Return the structure of a model as text that is the same in every process.

    With what of it is frozen, and a digest of the code of classes that no library brought.
    """
    text = re.sub(r" at 0x[0-9a-f]+", "", str(model))
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    frozen += [name for name, m in model.named_modules() if model.training and not m.training]
    if frozen:
        text += f"\nfrozen: {', '.join(frozen)}"
    sources = {source for module in model.modules() for source in _sources_of(type(module))}
    if sources:
        text += _CODE + hashlib.sha256("".join(sorted(sources)).encode()).hexdigest()[:16]
    return text


def _sources_of(kind: type) -> Iterator[str]:
    """Yield the source of every function of a class, as far as there is any and it is no library's.

    What a library computes is known by its version.
    """
    for each in kind.__mro__:
        functions = filter(inspect.isfunction, vars(each).values())
        for function in functions if each.__module__.partition(".")[0] not in _LIBRARIES else ():
            if "site-packages" not in function.__code__.co_filename:
                try:
                    yield inspect.getsource(function)
                except (OSError, TypeError):  # typed in somewhere, and nowhere kept
                    continue


def describe_function(function: Callable) -> str:
    """Return a function's name and settings as text that is the same in every process.

    A function of the package is known by its name, any other by its name and its source.

    Raises:
        ValueError: if what it computes may depend on values that this text would not show.
    """
    settings: dict = {}
    while isinstance(function, functools.partial):
        if function.args:
            raise ValueError(f"give the settings of {function.func} by name; got {function.args}")
        settings, function = {**function.keywords, **settings}, function.func
    if str(getattr(function, "__module__", "")).startswith("lth_tutorial."):
        function = inspect.unwrap(function)  # a check of arguments around it changes no number
    name = f"{getattr(function, '__module__', None)}.{getattr(function, '__qualname__', function)}"
    if not inspect.isfunction(function) or function.__closure__ or "<lambda>" in name:
        raise ValueError(
            f"a workdir must know what it continues, and {name} does not show all that it depends "
            f"on; define a function by name, with its settings given by functools.partial"
        )
    odd = [k for k, v in settings.items() if not isinstance(v, (int, float, str, type(None)))]
    if odd:
        raise ValueError(f"settings of {name} are numbers or words; got others for {odd}")
    if not name.startswith("lth_tutorial."):
        name += " " + hashlib.sha256(inspect.getsource(function).encode()).hexdigest()[:16]
    return f"{name}({', '.join(f'{k}={v!r}' for k, v in sorted(settings.items()))})"


def within(workdir: str | Path | None, *parts: str) -> Path | None:
    """Return a folder below the working directory, or None if there is none."""
    return None if workdir is None else Path(workdir).joinpath(*parts)


def _read_identity(path: Path) -> dict | None:
    """Return what stands in identity.json, or None if there is none that can be read."""
    if not path.exists():
        return None
    try:
        found = read_json(path.read_bytes())
        if isinstance(found, dict) and found.get("checksum", _digest(found)) != _digest(found):
            raise ValueError("it was altered")
    except (ValueError, OSError) as error:
        warn_of_damage(path, error)
        return None
    return found if isinstance(found, dict) else {}


def _digest(content: Mapping) -> str:
    text = json.dumps({k: v for k, v in content.items() if k != "checksum"}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _versions() -> dict[str, str]:
    return {"torch": torch.__version__, "lth_tutorial": __version__}


def _tell_of_versions(folder: Path, there: Mapping[str, str] | None) -> None:
    """Warn, once for all folders of a working directory, if other versions began the run."""
    if there is None or there == _versions():
        return
    begun, now = (", ".join(f"{k} {v}" for k, v in each.items()) for each in (there, _versions()))
    text = f"was begun by {begun} and goes on with {now}: what is computed from here on may differ"
    if once_per_workdir(folder, text):
        warn(f"{folder} {text} in its last bits", VersionWarning)


def identity_digest(identity: Mapping) -> str:
    """Return the digest of a configuration: what its files are known by."""
    return hashlib.sha256(_as_text(identity).encode()).hexdigest()


def _as_text(identity: Mapping) -> str:
    return json.dumps(_plain(identity), indent=1, sort_keys=True)


def _is_same(there: object, here: object) -> bool:
    """Return whether two entries agree; earlier versions and workers cannot tell of code."""
    if isinstance(there, str) and isinstance(here, str) and (_CODE in there) != (_CODE in here):
        return there.partition(_CODE)[0] == here.partition(_CODE)[0]
    return there == here


def _as_written_today(there: dict, identity: Mapping) -> dict:
    """Return what an earlier version wrote of a configuration in the words of this one.

    Functions are named by their modules, which have moved; a setting that the file does not know
    came later, and then the rule was what is its default.
    """
    known = {key: _renamed(value) for key, value in there.items()}
    for key, value in identity.items():
        if is_dataclass(value) and isinstance(known.get(key), dict):
            later = {
                each.name: _plain(each.default)
                for each in fields(value)
                if each.default is not MISSING
            }
            known[key] = later | known[key]
    return known


def _renamed(value: object) -> object:
    if isinstance(value, list):
        return [_renamed(each) for each in value]
    if not isinstance(value, str):
        return value
    parts = value.partition("(")[0].split(".")
    if parts[0] != "lth_tutorial" or len(parts) != 3:  # since the move a name has four at least
        return value
    moved = _moved().get(parts[1], parts[1])
    return value.replace(f"lth_tutorial.{parts[1]}.", f"lth_tutorial.{moved}.", 1)


def _moved() -> dict[str, str]:
    """Return today's path of every module that stood at the root of version 0.1.0."""
    pairs = [
        (room, each if isinstance(each, tuple) else (each, each))
        for room, modules in MOVED.items()
        for each in modules
    ]
    return {old: f"{room}.{new}" for room, (new, old) in pairs}


def _plain(value: object) -> object:
    """Return configurations and sequences as JSON knows them."""
    if is_dataclass(value):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple, set, range)):
        return [_plain(each) for each in value]
    return as_python(value)
