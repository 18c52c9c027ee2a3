"""Which values fit an annotation, and how an error message says both in words."""

from __future__ import annotations

import collections.abc
import functools
import inspect
import math
import numbers
import os
import types
import typing
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

_DICTIONARIES = {
    "Mask": "a mask: a dictionary from parameter name to boolean tensor, as dense_mask(model) or "
    "prune(…) return it",
    "State": "a state: a dictionary from parameter name to tensor, as snapshot(model) returns it",
    "Scores": "scores: a dictionary from parameter name to tensor, as magnitude_scores(…) returns",
    "Units": "a dictionary from group name to boolean tensor, as prune(…, all_units(groups), …) "
    "returns it",
}
_MAKERS = {
    "Module": "build_model(name, seed=…) makes one from a name",
    "Dataset": "load_dataset(name) or make_dataset(…) make one",
    "DataFrame": "rows are a pandas DataFrame, as lottery_experiment or load_rows return it",
    "Tensor": "torch.as_tensor(…) makes one",
}
_LONGEST = 60
_MAPPINGS = (collections.abc.Mapping, dict)


@functools.cache
def hints(function: Callable) -> dict[str, tuple[object, str]]:
    """Return the annotation of every parameter, as an object and as it is spelled."""
    scope = inspect.unwrap(function)
    globals_ = vars(__import__(scope.__module__, fromlist=["_"]))
    scope_names = {"pd": _Pandas, "DataFrame": _Frame, "Figure": object, **globals_}
    found = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        spelled = parameter.annotation
        if isinstance(spelled, str):
            try:
                found[name] = eval(spelled, scope_names), spelled
            except NameError:
                continue  # a name that is imported for type checkers only
    return found


@functools.cache
def defaults(function: Callable) -> dict[str, object]:
    return {name: each.default for name, each in inspect.signature(function).parameters.items()}


class _Frame:
    """Stands for pandas.DataFrame where pandas is not imported."""


class _Pandas:
    DataFrame = _Frame


def fits(value: object, hint: object) -> bool:
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if hint in (typing.Any, object, None, inspect.Parameter.empty):
        return hint is not None or value is None
    if hint is type(None):
        return value is None
    if origin in (typing.Union, types.UnionType):
        if str in inside and callable(value):  # a name or a function: what else, the function says
            return any(typing.get_origin(each) is collections.abc.Callable for each in inside)
        return any(fits(value, each) for each in inside)
    if origin is typing.Literal:
        return isinstance(value, str)  # which ones, the function says, with the nearest
    if hint is int:
        return is_whole(value)
    if hint is float:  # which numbers, the function says
        return is_number(value)
    if hint is bool:
        return isinstance(value, bool) or type(value).__name__ in ("bool_", "bool")
    if hint is _Frame:
        return any(each.__name__ == "DataFrame" for each in type(value).__mro__)
    if origin is collections.abc.Callable or hint is collections.abc.Callable:
        return callable(value) and not isinstance(value, nn.Module) and not _is_class(value)
    if origin is tuple and inside and inside[-1] is not Ellipsis:
        given = isinstance(value, (tuple, list)) and len(value) == len(inside)
        return given and all(map(fits, value, inside))
    if origin in _MAPPINGS:
        if not isinstance(value, collections.abc.Mapping):
            return False
        return odd_entry(value, hint) is None
    if origin in (collections.abc.Sequence, collections.abc.Iterable, list, tuple):
        return _is_sequence_of(value, inside[0] if inside else object)
    plain = origin or hint
    if plain in (Path, os.PathLike):
        return isinstance(value, os.PathLike)
    if isinstance(plain, type) and issubclass(plain, nn.Module):
        return isinstance(value, nn.Module)  # which modules, too
    return isinstance(value, plain) if isinstance(plain, type) else True


def odd_entry(value: object, hint: object, spelled: str = "") -> str | None:
    """Return which entry of a mapping does not fit, "['a'] is …", or None if all do."""
    if not isinstance(value, collections.abc.Mapping):
        return None
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        hint = next((each for each in typing.get_args(hint) if typing.get_args(each)), None)
    inside = typing.get_args(hint)
    if typing.get_origin(hint) not in _MAPPINGS or len(inside) != 2:
        return None
    is_allowed = _ENTRIES.get(spelled.removesuffix(" | None"), lambda entry: True)
    for key, entry in value.items():
        if str(key).endswith("_extra_state"):  # of a module's get_extra_state(), whatever it is
            continue
        if not fits(entry, inside[1]):
            kind = f" ({type(entry).__name__})" if isinstance(entry, (list, dict)) else ""
            return f"[{key!r}] is {shown(entry)}{kind}"
        if not is_allowed(entry):
            where = ", on no device (meta)" if entry.is_meta else ""
            return f"[{key!r}] is of {entry.dtype}, {entry.layout}{where}"
    return None


def _is_dense(tensor: Tensor) -> bool:
    return tensor.layout is torch.strided and not tensor.is_meta


def _are_scores(tensor: Tensor) -> bool:
    return _is_dense(tensor) and tensor.dtype is not torch.bool and not tensor.is_complex()


_ENTRIES = {"Mask": _is_dense, "State": _is_dense, "Scores": _are_scores}
"""Which tensors the values of a mapping may be, by the name of its type."""


def _is_sequence_of(value: object, inside: object) -> bool:
    if isinstance(value, str):
        return inside is str  # one name, as good as a list of it
    if isinstance(value, (collections.abc.Mapping, bytes, nn.Module)):
        return False
    if not isinstance(value, collections.abc.Iterable) or getattr(value, "ndim", 1) == 0:
        return False
    # What can be read only once is left for the function to read.
    if not isinstance(value, collections.abc.Sized):
        return True
    # pandas' missing number is one of a table's.
    return all(fits(v, inside) or (inside is float and type(v).__name__ == "NAType") for v in value)


def _is_class(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, nn.Module)


def described(hint: object, spelled: str) -> str:
    """Return in words what a parameter takes."""
    plain = spelled.removesuffix(" | None")
    none = ", or None" if plain != spelled else ""
    if plain in _DICTIONARIES:
        return _DICTIONARIES[plain] + none
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        words = [described(each, "") for each in inside if each is not type(None)]
        return " or ".join(words) + none
    if origin is typing.Literal:
        return "one of " + ", ".join(map(repr, inside))
    if origin in (collections.abc.Sequence, collections.abc.Iterable, list) or (
        origin is tuple and inside[-1] is Ellipsis
    ):
        return f"a sequence, each of it {described(inside[0], '')}"
    if origin is tuple:
        return "a tuple of " + " and ".join(described(each, "") for each in inside)
    if origin in (collections.abc.Mapping, dict):
        return f"a mapping, each value {described(inside[1], '')}"
    if origin is collections.abc.Callable or hint is collections.abc.Callable:
        taken = inside[0] if inside else ...
        takes = "" if taken is ... or not taken else f" of {len(taken)} argument(s)"
        return f"a function{takes}"
    names = {int: "a whole number", float: "a number", bool: "True or False", str: "a text"}
    names |= {_Frame: "a DataFrame", os.PathLike: "a path", object: "anything"}
    if hint in names:
        return names[hint]
    name = getattr(hint, "__name__", str(hint))
    return f"{'an' if name[0] in 'AEIO' else 'a'} {name}"


def hint_for(value: object, hint: object) -> str:
    """Return what would work, where that is known."""
    is_mapping = typing.get_origin(hint) in (dict, collections.abc.Mapping)
    wanted = [hint] if is_mapping else [hint, *typing.get_args(hint)]
    for each in wanted:
        short = "DataFrame" if each is _Frame else getattr(each, "__name__", "")
        if isinstance(each, type) and isinstance(value, type) and issubclass(value, each):
            return f": make one, {value.__name__}(…)"
        if short in _MAKERS and not isinstance(value, type):
            return f" ({_MAKERS[short]})"
    sequences = (collections.abc.Sequence, collections.abc.Iterable)
    if typing.get_origin(hint) in sequences and is_whole(value):
        return f": range({value}) makes {value} of them, [{value}] is the one"
    whole = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if whole and int in wanted and math.isfinite(value) and value == int(value):
        return f": write {int(value)}"
    return ""


def usage(function: Callable) -> str:
    """Return the order of a function's arguments."""
    parameters = inspect.signature(function).parameters.values()
    ordered = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    more = ", …" if len(ordered) < len(parameters) else ""
    return f"The order is {function.__name__}({', '.join(ordered)}{more})"


def shown(value: object) -> str:
    """Return a value as an error message repeats it: short, and with its kind."""
    if isinstance(value, type):
        return f"the class {value.__name__} itself"
    kind = type(value).__name__
    if isinstance(value, (nn.Module, Tensor)) or kind in ("Dataset", "DataFrame", "ndarray"):
        shape = f" of shape {tuple(value.shape)}" if hasattr(value, "shape") else ""
        name = f" {value.name!r}" if kind == "Dataset" else ""
        return f"a {kind}{name}{shape}"
    if callable(value) and hasattr(value, "__name__"):
        return f"the function {value.__name__}"
    text = repr(value)
    text = text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
    return text if value is None or isinstance(value, (bool, dict, list)) else f"{text} ({kind})"


def is_whole(value: object) -> bool:
    """Return whether a value is a whole number: Python's or NumPy's, but not True or False."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Return whether a value is a real number: Python's or NumPy's, but not True or False."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def as_python(value: object) -> object:
    """Return Python's own number for one of another kind, such as NumPy's: JSON knows no other."""
    if not is_number(value) or type(value) in (int, float):
        return value
    return int(value) if is_whole(value) else float(value)


def with_python_numbers_(config: object) -> None:
    """Put Python's own numbers in place of others in a frozen dataclass that is being made."""
    for name, value in vars(config).items():
        object.__setattr__(config, name, as_python(value))
