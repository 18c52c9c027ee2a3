"""The packed tickets that come with the package: real ones, to load and to measure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from lth_tutorial.data.sources import load_dataset
from lth_tutorial.networks.build import build_model
from lth_tutorial.networks.layers import with_batch_norm
from lth_tutorial.runtime import choose
from lth_tutorial.safety.arguments import checked
from lth_tutorial.supermask.packed import load_ticket, read_ticket

if TYPE_CHECKING:
    import pandas as pd

SUFFIX = ".safetensors"


def shipped_folder() -> Path:
    """Return the folder of the package's own packed tickets."""
    return Path(str(files("lth_tutorial") / "_data" / "tickets"))


def shipped_tickets() -> pd.DataFrame:
    """Return a table of the packed tickets that come with the package, one row each.

    Its index has the names for `load_shipped_ticket`. Columns: data, network, arm, keep (share of
    the weights), seed, accuracy (on the test set, [0, 1], when it was packed), n (seeds of which
    it is the best, so that its accuracy flatters), weights, bytes, and the record behind it.
    """
    import pandas as pd

    rows = {}
    for name, path in _files().items():
        header, _ = read_ticket(path)
        about = header["about"]
        rows[name] = {
            "data": about["data"],
            "network": about["network"],
            "arm": about["arm"],
            "keep": header["design"]["keep"],
            "seed": header["seed"],
            "accuracy": header["accuracy"],
            "n": about["n"],
            "weights": about["weights"],
            "bytes": path.stat().st_size,
            "record": about["record"],
        }
    return pd.DataFrame.from_dict(rows, orient="index")


@checked
def load_shipped_ticket(name: str) -> nn.Module:
    """Return the network of one of the package's packed tickets, in evaluation mode.

    Args:
        name: as `shipped_tickets` has them.

    Raises:
        ValueError: for an unknown name; or as `load_ticket`.
    """
    known = _files()
    path = known[choose("packed ticket", name, known)]
    about = read_ticket(path)[0]["about"]
    if ticket_name(about) != name:
        raise ValueError(f"{path} holds the ticket {ticket_name(about)!r}: files were exchanged")
    # Other data sets have the shapes that `build_model` takes by default.
    data = load_dataset("digits") if about["data"] == "digits" else None
    model = build_model(about["network"], seed=0, data=data)
    return load_ticket(path, with_batch_norm(model) if about["batch_norm"] else model)


def ticket_name(about: Mapping[str, str]) -> str:
    """Return the name of a packed ticket, a plain file name, from what its header says."""
    text = f"{about['data']}-{about['network']}-{about['arm']}".replace("_", "-")
    return re.sub(r"[^\w.+-]", "-", text)


def _files() -> dict[str, Path]:
    return {path.stem: path for path in sorted(shipped_folder().glob(f"*{SUFFIX}"))}
