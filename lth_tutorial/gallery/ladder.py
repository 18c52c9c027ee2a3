"""What each record costs, at four sizes: seconds of a processor to hours of a GPU."""

from __future__ import annotations

import html
from dataclasses import dataclass

from lth_tutorial.experiments import EXPERIMENTS
from lth_tutorial.experiments.cost import cost_of, in_minutes
from lth_tutorial.results.records import load_provenance, recorded
from lth_tutorial.safety.arguments import checked

GPUS = ("H200", "A100", "T4")
_SIZES = {
    "digits": "The digits, on one core",
    "mnist": "MNIST, on one core",
    "short": "CIFAR-10, short",
    "cifar10": "CIFAR-10, the papers' protocols",
}


@dataclass(frozen=True)
class ComputeLadder:
    """The compute ladder; shows itself in a notebook and in the book.

    Attributes:
        rows: size, name of the record, estimated minutes by device (empty where there is no
            estimate), and what was measured, in words.
    """

    rows: tuple[tuple[str, str, dict[str, float], str], ...]

    def _repr_html_(self) -> str:
        heads = ("Record", *GPUS, "Measured")
        parts = ["<table class='lth-costs'><thead><tr>"]
        parts += [f'<th scope="col">{head}</th>' for head in heads]
        parts.append("</tr></thead>")
        for size, title in _SIZES.items():
            own = [row for row in self.rows if row[0] == size]
            if not own:
                continue
            parts.append(f'<tbody><tr><th scope="rowgroup" colspan="5">{title}</th></tr>')
            for _, name, minutes, measured in own:
                cells = [in_minutes(minutes[gpu]) if gpu in minutes else "–" for gpu in GPUS]
                texts = [f"<code>{html.escape(name)}</code>", *cells, html.escape(measured) or "–"]
                parts.append("<tr>" + "".join(f"<td>{text}</td>" for text in texts) + "</tr>")
            parts.append("</tbody>")
        return "".join([*parts, "</table>"])

    def __repr__(self) -> str:
        lines = []
        for _, name, minutes, measured in self.rows:
            known = ", ".join(f"{gpu} {in_minutes(m)}" for gpu, m in minutes.items())
            lines.append(f"{name}: {known or 'no estimate'}; measured: {measured or 'not yet'}")
        return "\n".join(lines)


@checked
def compute_ladder() -> ComputeLadder:
    """Return what the named experiments cost, measured where they were run, else estimated.

    All of them but the small ones on the Cubist Spiral.

    On the small records a GPU has no advantage worth an estimate; they have the time of a core.
    """
    rows = []
    for design in EXPERIMENTS:
        size = "short" if design.name.endswith("-short") else design.dataset
        if size not in _SIZES:
            continue
        cost = cost_of(design) if size in ("short", "cifar10") else None
        minutes = {} if cost is None else {gpu: cost.minutes[gpu] for gpu in GPUS}
        rows.append((size, design.name, minutes, _measured(design.name)))
    return ComputeLadder(tuple(rows))


def _measured(name: str) -> str:
    """Return the time that a record took, and where."""
    if name not in recorded():
        return ""
    about = load_provenance(name)
    scale = "" if about["scale"] == 1 else f", {about['scale']:.0%} of the steps"
    device = str(about["device"]).partition(" (")[0]
    return f"{in_minutes(about['wall_time_s'] / 60)} ({device}{scale})"
