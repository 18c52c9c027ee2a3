"""Runs that survive: files from which a killed run continues to the same bits.

A folder belongs to one configuration, written down in its `identity.json`; any other is refused.
Training writes its progress now and then, and its results at the end. Every file appears whole or
not at all (safetensors, with what is not a tensor as JSON in its header) and is checked when it
is read: a damaged one is named and computed anew. Nothing is pickled.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import re
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, asdict, fields, is_dataclass
from pathlib import Path

import torch

from lth_tutorial.runtime import is_whole, remove_leftovers, write_atomically
from lth_tutorial.states import State, state_hash
from lth_tutorial.training.outcome import TrainResult

SAVE_EVERY_S = 30.0
"""Seconds of training between two checkpoints; what a kill loses at most."""

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


class StoredStates(Mapping[str, State]):
    """States in a file, read and checked whenever one is asked for.

    Raises:
        FileNotFoundError: on reading, if the working directory was removed meanwhile.
        ValueError: on reading, if the file was altered meanwhile.
    """

    def __init__(self, path: Path, digests: Mapping[str, str], device: torch.device) -> None:
        self.path, self.digests, self.device = path, digests, device

    def __getitem__(self, name: str) -> State:
        from safetensors import SafetensorError, safe_open

        if name not in self.digests:
            raise KeyError(name)
        prefix = f"{name}/"
        try:
            with safe_open(self.path, "pt") as file:
                keys = [key for key in file.keys() if key.startswith(prefix)]
                state = {key.removeprefix(prefix): file.get_tensor(key) for key in keys}
        except SafetensorError as error:
            raise ValueError(f"{self.path} is damaged: {error}") from error
        if state_hash(state) != self.digests[name]:
            raise ValueError(f"{self.path} was altered: {name} is not what was saved")
        return {key: tensor.to(self.device) for key, tensor in state.items()}

    def __iter__(self) -> Iterator[str]:
        return iter(self.digests)

    def __len__(self) -> int:
        return len(self.digests)


class Checkpoints:
    """The files of one call of `training.fit`: its progress and one result per replicate."""

    def __init__(self, folder: str | Path, identity: Mapping, size: int, device) -> None:
        self.folder, self.device = Path(folder), device
        self.identity = claim_folder(self.folder, identity)
        self.results = [self.folder / f"result-{i}.safetensors" for i in range(size)]
        self.progress = self.folder / "progress.safetensors"
        self.saved_at, self.took = time.monotonic(), 0.0

    def is_due(self) -> bool:
        """Return whether enough time has passed since the last checkpoint.

        Many networks side by side take seconds to write: then at most a twentieth of the time.
        """
        between = SAVE_EVERY_S if self.took < 1.5 else 20 * self.took
        return time.monotonic() - self.saved_at >= between

    def save_progress(self, states: Mapping[str, State], about: Mapping) -> None:
        """Write a checkpoint in place of the last one."""
        began = time.monotonic()
        write_states(self.progress, self.identity, states, about)
        self.saved_at = time.monotonic()
        self.took = self.saved_at - began

    def load_progress(self) -> tuple[Mapping[str, State], dict] | None:
        """Return the last checkpoint, or None if there is none that is whole."""
        return read_states(self.progress, self.identity, self.device)

    def save_results(self, results: Sequence[TrainResult]) -> None:
        """Write the results, and remove the checkpoint that they supersede."""
        for path, result in zip(self.results, results, strict=True):
            about = {name: getattr(result, name) for name in ("history", "steps", "diverged_step")}
            write_states(path, self.identity, result.states, about)
        self.progress.unlink(missing_ok=True)
        remove_leftovers(self.folder)

    def load_results(self) -> list[TrainResult] | None:
        """Return all results, their states to be read when asked for, or None if one is missing."""
        found = [read_states(path, self.identity, self.device) for path in self.results]
        if None in found:
            return None
        return [TrainResult(states=states, **about) for states, about in found]


def claim_folder(folder: str | Path, identity: Mapping) -> str:
    """Make a folder the place of one configuration; return the configuration's digest.

    Raises:
        ValueError: if the folder belongs to another configuration; says in what they differ.
        OSError: if the folder cannot be written.
    """
    path = Path(folder) / "identity.json"
    now = _plain(identity)
    content = json.dumps(now, indent=1, sort_keys=True)
    there = _read_json(path)
    if there is None:
        write_atomically(path, content.encode())
        return hashlib.sha256(content.encode()).hexdigest()
    known, now = _as_written_today(there, identity), json.loads(content)
    if known != now:
        keys = sorted(k for k in {*known, *now} if known.get(k) != now.get(k))
        differing = "; ".join(f"{k}: {known.get(k)!r} there, {now.get(k)!r} here" for k in keys)
        raise ValueError(
            f"{folder} belongs to a run of another configuration ({differing}); name another "
            f"workdir, or delete that one"
        )
    # The digest that its files carry is that of the text as it was written, by whichever version.
    return hashlib.sha256(json.dumps(there, indent=1, sort_keys=True).encode()).hexdigest()


def write_states(path: Path, identity: str, states: Mapping[str, State], about: Mapping) -> None:
    """Write named states, and JSON about them, to one file."""
    from safetensors.torch import save

    content = {name: states[name] for name in states}  # read once where they lie in a file
    digests = {name: state_hash(state) for name, state in content.items()}
    header = json.dumps({"identity": identity, "digests": digests, "about": about})
    tensors = {
        f"{name}/{key}": tensor.detach().to("cpu", copy=True).contiguous()
        for name, state in content.items()
        for key, tensor in state.items()
    }
    digest = hashlib.sha256(header.encode()).hexdigest()
    write_atomically(path, save(tensors, {"header": header, "sha256": digest}))


def read_states(path: Path, identity: str, device) -> tuple[StoredStates, dict] | None:
    """Return what `write_states` wrote, every state checked, or None if there is no such file.

    Warns:
        DamagedFileWarning: naming a file that is damaged or belongs to another run; counts as none.
    """
    from safetensors import SafetensorError, safe_open

    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            found = file.metadata() or {}
        text = found.get("header", "")
        if hashlib.sha256(text.encode()).hexdigest() != found.get("sha256"):
            raise ValueError("its header was altered")
        header = json.loads(text)
        if header["identity"] != identity:
            raise ValueError("it belongs to another run")
        states = StoredStates(path, header["digests"], device)
        for name in states:
            states[name]  # reading checks
    except (SafetensorError, ValueError, OSError) as error:
        warn_of_damage(path, error)
        return None
    return states, header["about"]


def read_checked_json(path: Path, identity: str) -> list | dict | None:
    """Return what `write_checked_json` wrote, or None if there is no such file or it is damaged."""
    found = _read_json(path)
    if found is None:
        return None
    try:
        text = json.dumps(found["content"])
        if found["sha256"] != hashlib.sha256(f"{identity} {text}".encode()).hexdigest():
            raise ValueError("it was altered, or belongs to another run")
    except (KeyError, TypeError, ValueError) as error:
        warn_of_damage(path, error)
        return None
    return found["content"]


def write_checked_json(path: Path, identity: str, content: list | dict) -> None:
    """Write plain content to a JSON file with its checksum."""
    digest = hashlib.sha256(f"{identity} {json.dumps(content)}".encode()).hexdigest()
    write_atomically(path, json.dumps({"sha256": digest, "content": content}).encode())


def warn_of_damage(path: Path, reason: object) -> None:
    """Say that a file cannot be used and is computed anew."""
    text = f"{path} is damaged ({reason}); its content is computed anew"
    warnings.warn(text, DamagedFileWarning, stacklevel=4)


def describe_model(model: torch.nn.Module) -> str:
    """Return the structure of a model as text that is the same in every process."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(model))


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


def _read_json(path: Path) -> dict | None:
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text())
    except (ValueError, OSError) as error:
        warn_of_damage(path, error)
        return None
    return found if isinstance(found, dict) else {}


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
    return int(value) if is_whole(value) else value
