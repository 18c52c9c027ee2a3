"""Whether rows were measured by the settings of today; if not, in which words they differ."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass

from lth_tutorial.experiments.design import Experiment, Part, scaled


def check_same(design: Experiment, about: Mapping, data: str) -> None:
    """Raise a ValueError if a record was measured with other settings or data than these."""
    changed = changed_settings(design, about)
    if about["data"] != data:
        changed.append(f"data: {about['data']!r} there, {data!r} here")
    if changed:
        raise ValueError(
            f"the record of {design.name} was measured otherwise ({'; '.join(changed)}), and rows "
            f"of two settings do not mix; use the same data, or measure all seeds anew with run"
        )


def changed_settings(design: Experiment, about: Mapping) -> list[str]:
    """Return in words which settings of a record are not those of its experiment any more.

    A setting that the record does not know came later: then the rule was what is its default.
    Which arms are packed changes no row and does not count.
    """
    parts, there = scaled(design, about["scale"]).parts, about["parts"]
    if len(there) != len(parts):
        return [f"{len(there)} parts there, {len(parts)} here"]
    return [
        text
        for i, (old, part) in enumerate(zip(there, parts, strict=True))
        for text in differences(old, part, part.label or f"part {i}")
    ]


def differences(there: Mapping, here: Part | object, name: str) -> list[str]:
    """Compare what was written down of a dataclass with one of today, in words."""
    found = [f"{name}, {key}: {there[key]!r} there, none here"
             for key in there if not hasattr(here, key)]  # fmt: skip
    for field in (field for field in fields(here) if field.name != "packed"):
        now, key = getattr(here, field.name), f"{name}, {field.name}"
        before = there.get(field.name, field.default)
        if is_dataclass(now) and isinstance(before, Mapping):
            found += differences(before, now, key)
        elif _as_json(before) != _as_json(now):
            found.append(f"{key}: {before!r} there, {now!r} here")
    return found


def _as_json(value: object) -> str:
    return json.dumps(asdict(value) if is_dataclass(value) else value, default=repr)
