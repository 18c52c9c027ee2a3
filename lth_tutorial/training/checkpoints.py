"""Runs that survive: files from which a killed run continues to the same bits.

A folder belongs to one configuration, written down in its `identity.json`; any other is refused.
Training writes its progress now and then, and its results at the end. Every file appears whole or
not at all (safetensors, with what is not a tensor as JSON in its header), says of which replicate
it is, and is checked when it is read: a damaged one is named, put aside, and computed anew.
Nothing is pickled.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch

from lth_tutorial.safety.files import (
    UncheckedFileWarning,
    as_safetensors,
    read_json,
    remove_leftovers,
    sealed,
    unsealed,
    write_atomically,
)
from lth_tutorial.safety.locks import once_per_workdir
from lth_tutorial.safety.warn import warn
from lth_tutorial.states import State, state_hash
from lth_tutorial.training.identity import claim_folder as claim_folder
from lth_tutorial.training.identity import describe_function as describe_function
from lth_tutorial.training.identity import describe_model as describe_model
from lth_tutorial.training.identity import identity_digest, warn_of_damage
from lth_tutorial.training.identity import within as within
from lth_tutorial.training.outcome import TrainResult

SAVE_EVERY_S = 30.0
"""Seconds of training between two checkpoints; what a kill loses at most."""


class StoredStates(Mapping[str, State]):
    """States in a file, read and checked whenever one is asked for.

    Raises:
        FileNotFoundError: on reading, if the working directory was removed meanwhile.
        ValueError: on reading, if the file was altered meanwhile.
    """

    def __init__(
        self, path: Path, digests: Mapping[str, str], device: torch.device, order: Sequence[str]
    ) -> None:
        self.path, self.digests, self.device, self.order = path, digests, device, order

    def __getitem__(self, name: str) -> State:
        from safetensors import safe_open

        if name not in self.digests:
            raise KeyError(name)
        prefix = f"{name}/"
        try:
            with safe_open(self.path, "pt") as file:
                keys = [key for key in file.keys() if key.startswith(prefix)]
                state = {key.removeprefix(prefix): file.get_tensor(key) for key in keys}
        except FileNotFoundError:
            raise
        except Exception as error:  # of several kinds, according to where a bit has turned
            raise ValueError(f"{self.path} is damaged: {error}") from error
        if state_hash(state) != self.digests[name]:
            raise ValueError(f"{self.path} was altered: {name} is not what was saved")
        # safetensors does not keep the order of the network, which other functions read.
        names = [key for key in self.order if key in state]
        return {key: state[key].to(self.device) for key in dict.fromkeys([*names, *state])}

    def __iter__(self) -> Iterator[str]:
        return iter(self.digests)

    def __len__(self) -> int:
        return len(self.digests)


class Checkpoints:
    """The files of one call of `loop.fit`: its progress and one result per replicate.

    Raises:
        ValueError: if the folder belongs to another configuration, or holds files of these names
            that no run of this package wrote there.
        OSError: if the folder cannot be written.
    """

    def __init__(
        self, folder: str | Path, identity: Mapping, size: int, device, order: Sequence[str] = ()
    ) -> None:
        """Take the names of a state in the order in which it is to come back."""
        self.folder, self.device, self.order = Path(folder).absolute(), device, list(order)
        self.results = [self.folder / f"result-{i}.safetensors" for i in range(size)]
        self.progress = self.folder / "progress.safetensors"
        if not (self.folder / "identity.json").exists():
            _check_ours([*self.results, self.progress], identity_digest(identity))
        self.identity = claim_folder(self.folder, identity)
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
        write_states(self.progress, self.identity, states, about, what="progress")
        self.saved_at = time.monotonic()
        self.took = self.saved_at - began

    def load_progress(self) -> tuple[Mapping[str, State], dict] | None:
        """Return the last checkpoint, or None if there is none that is whole."""
        found = read_states(self.progress, self.identity, self.device, self.order)
        if found is None or found[2] in ("progress", None):
            return found and found[:2]
        warn_of_damage(self.progress, f"it is the {found[2]}")
        return None

    def save_results(self, results: Sequence[TrainResult]) -> None:
        """Write the results, and remove the checkpoint that they supersede."""
        for i, (path, result) in enumerate(zip(self.results, results, strict=True)):
            about = {name: getattr(result, name) for name in ("history", "steps", "diverged_step")}
            write_states(path, self.identity, result.states, about, what=_result(i))
        self.progress.unlink(missing_ok=True)
        remove_leftovers(self.folder)

    def load_results(self) -> list[TrainResult] | None:
        """Return all results, their states to be read when asked for, or None if one is missing.

        Each counts as that of the replicate that it names, even if its file was renamed.
        """
        found: dict[str, TrainResult] = {}
        elsewhere: list[tuple[Path, str]] = []
        unchecked = None
        for i, path in enumerate(self.results):
            read = read_states(path, self.identity, self.device, self.order)
            if read is None:
                continue
            states, about, what = read
            unchecked = path if what is None else unchecked
            what = what or _result(i)
            if what != _result(i):
                elsewhere.append((path, what))
            found.setdefault(what, TrainResult(states=states, **about))
        names = [_result(i) for i in range(len(self.results))]
        for path, what in elsewhere:
            if _result(self.results.index(path)) not in found:
                warn_of_damage(path, f"it is the {what}")
        text = "do not say of which replicate they are, because an earlier version wrote them; "
        text += "they are taken as they stand"
        if unchecked is not None and once_per_workdir(self.folder, text):
            warn(f"{unchecked} and its like {text}", UncheckedFileWarning)
        return [found[name] for name in names] if set(names) <= set(found) else None


def write_states(
    path: Path, identity: str, states: Mapping[str, State], about: Mapping, *, what: str
) -> None:
    """Write named states, and JSON about them, to one file that says what it is."""
    content = {name: states[name] for name in states}  # read once where they lie in a file
    digests = {name: state_hash(state) for name, state in content.items()}
    header = {"identity": identity, "what": what, "digests": digests, "about": about}
    tensors = {
        f"{name}/{key}": tensor for name, state in content.items() for key, tensor in state.items()
    }
    write_atomically(path, as_safetensors(tensors, sealed(header)))


def read_states(
    path: Path, identity: str, device, order: Sequence[str] = ()
) -> tuple[StoredStates, dict, str | None] | None:
    """Return what `write_states` wrote, every state checked, or None if there is no such file.

    The last of it is what the file says that it is; None in files of earlier versions.

    Warns:
        DamagedFileWarning: naming a file that is damaged or belongs to another run; counts as none.
    """
    if not path.exists():
        return None
    try:
        header = _header_of(path)
        if header["identity"] != identity:
            raise ValueError("it belongs to another run")
        states = StoredStates(path, header["digests"], device, order)
        for name in states:
            states[name]  # reading checks
        return states, header["about"], header.get("what")
    except Exception as error:  # of several kinds, according to where a bit has turned
        warn_of_damage(path, error)
        return None


def read_checked_json(path: Path, identity: str, *, what: str) -> list | dict | None:
    """Return what `write_checked_json` wrote, or None if there is no such file or it is damaged."""
    if not path.exists():
        return None
    try:
        found = read_json(path.read_bytes())
        text = json.dumps(found["content"])
        said = f"{found['what']} {text}" if "what" in found else text
        if found["sha256"] != hashlib.sha256(f"{identity} {said}".encode()).hexdigest():
            raise ValueError("it was altered, or belongs to another run")
        if found.get("what", what) != what:
            raise ValueError(f"it holds the {found['what']}")
    except (KeyError, TypeError, ValueError, OSError) as error:
        warn_of_damage(path, error)
        return None
    return found["content"]


def write_checked_json(path: Path, identity: str, content: list | dict, *, what: str) -> None:
    """Write plain content to a JSON file that says what it is, with its checksum."""
    said = f"{identity} {what} {json.dumps(content)}"
    digest = hashlib.sha256(said.encode()).hexdigest()
    write_atomically(
        path, json.dumps({"sha256": digest, "what": what, "content": content}).encode()
    )


def _result(i: int) -> str:
    return f"result of replicate {i}"


def _header_of(path: Path) -> dict:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        header = unsealed(file.metadata())
    if header is None:
        raise ValueError("no run of this package wrote it")
    return header


def _check_ours(paths: Sequence[Path], identity: str) -> None:
    """Raise a ValueError if a file that a run would write stands there, and is not that run's."""
    for path in filter(Path.exists, paths):
        try:
            ours = _header_of(path)["identity"] == identity
        except Exception:
            ours = False
        if not ours:
            raise ValueError(
                f"{path} stands where this run would write a file of its own, and is of another "
                f"origin; name another workdir"
            )
