"""What a public function takes, checked before it begins: the kind of every argument.

`@checked` reads a function's own annotations, so that a model where data belong, a string or True
where numbers do or a class where an object does is named at once, with what was given and what
would work; and the ranges of what is called the same everywhere, such as seeds. Other ranges, and
whether arguments fit each other, are the functions' own business.
"""

from __future__ import annotations

import collections.abc
import difflib
import functools
import inspect
import math
import numbers
import os
import typing
from collections.abc import Callable

from lth_tutorial.safety.kinds import (
    defaults,
    described,
    fits,
    hint_for,
    hints,
    is_whole,
    odd_entry,
    shown,
    usage,
)

Function = typing.TypeVar("Function", bound=Callable)
"""Editors and type checkers see the function itself, not what was put round it."""


_SEED = "is a whole number of at least 0", lambda value: value >= 0
_COUNT = "is a whole number of at least 1", lambda value: value >= 1
_ABOVE_0 = "is a number above 0, and finite", lambda value: 0 < value < math.inf
_LENGTH = "is a number above 0", lambda value: value > 0
_SHARE = "is a number in [0, 1]", lambda value: 0 <= value <= 1
_SEEDS = (
    "are one or more different whole numbers of at least 0",
    lambda value: len(value) and min(value) >= 0,
)
_DATA_SEEDS = "are one or more whole numbers of at least 0", _SEEDS[1]
_SOME = "are one or more different names", lambda value: len(value) > 0
_FOLDER = (
    "is a folder; '.' is the one at hand, and ~ is not expanded (Path.expanduser does that)",
    lambda value: str(value) == os.path.expanduser(value) != "",
)
_FILE = "is a file, and ~ is not expanded (Path.expanduser does that)", _FOLDER[1]
_RANGES: dict[str, tuple[str, Callable]] = {
    "seed": _SEED, "data_seed": _SEED, "seeds": _SEEDS, "data_seeds": _DATA_SEEDS,
    "arms": _SOME, "others": _SOME,
    "window": _COUNT, "shuffles": _COUNT, "height": _COUNT, "width": _COUNT, "channels": _COUNT,
    "restarts": _COUNT, "pool": _COUNT, "children": _COUNT, "fewest": _COUNT,
    "synflow_rounds": _COUNT, "floor": _SHARE, "threshold": _SHARE,
    "longest": _LENGTH, "temperature": _ABOVE_0, "workdir": _FOLDER, "root": _FOLDER,
    "path": _FILE,
}  # fmt: skip
"""By the name of a parameter, which means the same everywhere; other ranges the functions check."""


class ArgumentError(ValueError, TypeError):
    """An argument is of a kind that the function cannot take; says which, and what would work."""


def checked(function: Function) -> Function:
    """Check the kind of every argument by its annotation before the function is called.

    Raises:
        ArgumentError: naming the argument; it is both a ValueError and a TypeError.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*arguments, **options):
        try:
            bound = signature.bind(*arguments, **options)
        except TypeError as error:
            raise ArgumentError(f"{usage(function)}: {error}") from None
        check_kinds(function, bound.arguments)
        return function(*arguments, **options)

    return typing.cast(Function, call)


def check_kinds(function: Callable, values: typing.Mapping[str, object]) -> None:
    """Raise an ArgumentError unless the values are of the kinds that a function's signature says.

    Args:
        function: a function, or a dataclass.
        values: by parameter name.
    """
    for name, (hint, spelled) in hints(function).items():
        if name not in values:
            continue
        value = values[name]
        if value is defaults(function)[name]:
            continue
        meant, is_allowed = _RANGES.get(name, ("", None)) if hint is not bool else ("", None)
        odd = odd_entry(value, hint, spelled)
        if odd or not fits(value, hint):
            says_kind = meant and (hint in (int, float) or name in ("seeds", "data_seeds"))
            meant = meant if says_kind else f"is {described(hint, spelled)}"
            more = f", where {name}{odd}" if odd else hint_for(value, hint)
        elif is_allowed and _is_out_of_range(name, value, is_allowed):
            more = ""
        else:
            continue
        raise ArgumentError(f"{name} {meant}; got {shown(value)}{more}. {usage(function)}")


def _is_out_of_range(name: str, value: object, is_allowed: Callable) -> bool:
    if value is None:
        return False
    if isinstance(value, (numbers.Real, str, os.PathLike)):
        return not is_allowed(value)
    # What can be read only once is left for the function to read; a seed may be several numbers.
    if not isinstance(value, collections.abc.Sized) or name in ("seed", "data_seed"):
        return False
    return not is_allowed(value)


def at_least(name: str, value: object, least: int) -> None:
    """Raise an ArgumentError unless a value is a whole number of at least `least`."""
    if not is_whole(value) or value < least:
        raise ArgumentError(f"{name} is a whole number of at least {least}; got {shown(value)}")


def different_seeds(seeds: typing.Iterable[int], *, below: float = math.inf) -> list[int]:
    """Return seeds as a list, or raise an ArgumentError unless they are different, whole and below
    a number."""
    seeds = list(seeds)
    good = all(is_whole(seed) and 0 <= seed < below for seed in seeds)
    if not seeds or not good or len(set(seeds)) < len(seeds):
        where = "of at least 0" if math.isinf(below) else f"in 0 … {below - 1}"
        raise ArgumentError(f"seeds are one or more different whole numbers {where}; got {seeds}")
    return [int(seed) for seed in seeds]


def different_arms(arms: str | typing.Iterable[str], known: typing.Iterable[str]) -> list[str]:
    """Return names of arms as a list, a single one too, or raise unless they are known and differ.

    Raises:
        ValueError: for an unknown name (see `choose`), a name that stands twice, or none.
    """
    arms, known = [arms] if isinstance(arms, str) else list(arms), list(known)
    for arm in arms:
        choose("arm", arm, known)
    if not arms or len(set(arms)) < len(arms):
        raise ArgumentError(f"arms are one or more different names; got {arms}")
    return arms


def need_columns(rows, columns: typing.Iterable[str], of: str) -> None:
    """Raise an ArgumentError if a table lacks columns that a function reads."""
    missing = [column for column in columns if column not in rows]
    if missing:
        long = {"metric", "value"} <= set(rows.columns)
        hint = "; these are long rows, as a record has them: widen(rows) first" if long else ""
        raise ArgumentError(
            f"{of} needs rows with {', '.join(missing)}; these have "
            f"{', '.join(map(str, rows.columns)) or 'no columns'}{hint}"
        )


def choose(kind: str, name: object, known: typing.Iterable[str]) -> str:
    """Return `name` if it is one of the `known` names, else raise and suggest the nearest.

    Raises:
        ValueError: repeats `name`, lists what would work, and says which known name is nearest.
    """
    known = list(known)
    if isinstance(name, str) and name in known:
        return str(name)
    nearest = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
    raise ValueError(f"unknown {kind} {name!r}.{hint} Known: {', '.join(known)}")
