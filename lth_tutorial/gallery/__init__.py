"""The gallery: what every named experiment measured, beside the papers' numbers.

The page *Results at full scale* is made from it. `papers` has the numbers of the papers, `figures`
says which figures an experiment has, `parts` which rows belong to which of its parts; `gallery`
puts them together with the verdicts and with how the record came about. `ladder` says how much
each experiment costs on which machine.
"""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lth_tutorial.claims import CLAIMS, claims
from lth_tutorial.experiments import Experiment, experiment, scaled
from lth_tutorial.experiments.cost import cost_of, in_minutes
from lth_tutorial.gallery.ladder import GPUS, ComputeLadder, compute_ladder
from lth_tutorial.gallery.papers import NUMBERS, PaperNumber
from lth_tutorial.gallery.parts import part_rows
from lth_tutorial.plotting.card import png_uri
from lth_tutorial.results.intervals import Interval, format_number, t_interval
from lth_tutorial.results.records import load_rows, recorded, widen
from lth_tutorial.results.verdicts import verdicts
from lth_tutorial.safety.arguments import checked

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ComputeLadder", "GalleryEntry", "compute_ladder", "gallery"]

_STYLE = """
.lth-entry{overflow-wrap:anywhere}
.lth-entry figure>div{overflow:auto hidden}
.lth-entry img{width:100%;min-width:34rem;max-width:640px;height:auto}
.lth-papers{width:100%;border-collapse:collapse;table-layout:fixed;margin:1rem 0;color:inherit}
.lth-papers th,.lth-papers td{padding:.4rem .6rem .4rem 0;text-align:left;vertical-align:top;
border-bottom:1px solid currentColor;color:inherit;overflow-wrap:break-word}
.lth-papers th:first-child{width:44%}.lth-papers small{display:block}
""".replace("\n", "")

# In the element itself: the book's theme has rules of its own for captions, with pale grey text.
_CAPTION = "text-align:left;margin:.3rem 0 0;padding:0;color:inherit"


@dataclass(frozen=True)
class GalleryEntry:
    """What one experiment measured; shows itself in a notebook and in the book.

    Attributes:
        design: the experiment, with the steps of the scale at which it was run.
        rows: its wide rows; None if it has not been run.
        about: its provenance; empty if there is none.
        verdicts: its claims, as from `claims`.
    """

    design: Experiment
    rows: pd.DataFrame | None
    about: dict
    verdicts: pd.DataFrame

    @property
    def command(self) -> str:
        """The command that measures it."""
        plain = f"python -m lth_tutorial.experiments run {self.design.name}"
        return self.about.get("command", plain)

    @property
    def facts(self) -> str:
        """Scale, replicates, data, device, date and time in one line."""
        if self.rows is None:
            waiting = len(self.verdicts)
            return f"Not yet run; {waiting} claim{'s wait' if waiting != 1 else ' waits'} for it."
        scale = self.about.get("scale", 1.0)
        size = f"Scale {scale:g} ({'all' if scale == 1 else f'{100 * scale:g} % of'} the steps)"
        facts = [size, self._replicates()]
        facts += [str(self.about[key]) for key in ("data", "device", "date") if key in self.about]
        if "wall_time_s" in self.about:
            facts.append(_duration(self.about))
        return "; ".join(facts) + "."

    @property
    def estimate(self) -> str:
        """What all of it would take on several GPUs; empty for what needs none."""
        if self.design.dataset != "cifar10":
            return ""
        cost = cost_of(experiment(self.design.name))
        if cost is None:
            return ""
        times = ", ".join(f"{in_minutes(cost.minutes[gpu])} on one {gpu}" for gpu in GPUS)
        return f"Estimated cost of all its steps: {times}."

    def _replicates(self) -> str:
        """Return the number of seeds; of a record that is not complete, part by part."""
        counts = {
            part.label: part_rows(part, self.rows)["seed"].nunique() for part in self.design.parts
        }
        if len(set(counts.values())) == 1:
            return f"n = {self.rows['seed'].nunique()} seeds"
        each = ", ".join(f"{n} ({label})" for label, n in counts.items())
        return f"not complete: n = {each} of {len(self.design.seeds)} seeds"

    def beside_papers(self) -> list[tuple[PaperNumber, Interval]]:
        """Return the papers' numbers, each with our mean, 95 % interval and n."""
        if self.rows is None:
            return []
        scale = self.about.get("scale", 1.0)
        return [
            (number, t_interval(number.measure(self.rows, scale)))
            for number in NUMBERS
            if number.record == self.design.name
        ]

    def _repr_html_(self) -> str:
        parts = [f"<p>{html.escape(self.facts)}</p>"]
        parts.append(f"<p>Command: <code>{html.escape(self.command)}</code></p>")
        if self.estimate:
            parts.append(f"<p>{html.escape(self.estimate)}</p>")
        if self.rows is not None:
            from lth_tutorial.gallery.figures import figures

            for figure, caption, alt in figures(self.design, self.rows):
                parts.append(
                    f'<figure style="margin:1rem 0"><div tabindex="0"><img src="{png_uri(figure)}" '
                    f'alt="{html.escape(alt)}"></div><figcaption style="{_CAPTION}">'
                    f"{html.escape(_sentence(caption))}</figcaption></figure>"
                )
            parts.append(_papers_table(self.beside_papers()))
        if self.rows is not None and len(self.verdicts):
            parts.append(verdicts(self.verdicts)._repr_html_())
        return f"<div class='lth-entry'><style>{_STYLE}</style>{''.join(parts)}</div>"

    def __repr__(self) -> str:
        lines = [f"{self.design.name}: {self.facts}", self.command]
        lines += [
            f"{number.quantity}: {number.source} {number.paper}, here {_ours(number, interval)}"
            for number, interval in self.beside_papers()
        ]
        return "\n".join([*lines, repr(verdicts(self.verdicts))])


@checked
def gallery(name: str, rows: pd.DataFrame | None = None) -> GalleryEntry:
    """Return what a named experiment measured: figures, papers' numbers beside ours, verdicts.

    Everything is computed from the rows now. An experiment that has not been run says so, with
    the command that runs it.

    Args:
        name: of an experiment, as `python -m lth_tutorial.experiments list` prints them.
        rows: long rows, as from `load_rows`, in place of the recorded ones; how they came about is
            read from `rows.attrs["provenance"]`, if it is there.

    Raises:
        ValueError: for a name that no experiment has; names the nearest.
    """
    design = experiment(name)
    claimed = any(claim.record == name for claim in CLAIMS)
    given = {} if rows is None or not claimed else {name: widen(rows)}
    if rows is None and name in recorded():
        rows = load_rows(name)
    # One record may decide claims of two chapters, and some records only serve others.
    table = claims(given, record=name) if claimed else claims(chapter=design.chapter).iloc[:0]
    if rows is None:
        return GalleryEntry(design, None, {}, table)
    scale = float(rows["scale"].iloc[0])
    about = {"scale": scale, **rows.attrs.get("provenance", {})}
    return GalleryEntry(scaled(design, scale), widen(rows), about, table)


def _duration(about: dict) -> str:
    """Return the time that a run took; on a GPU its GPU-minutes."""
    seconds = float(about["wall_time_s"])
    if not str(about.get("device", "CPU")).startswith("CPU"):
        text = f"{seconds / 60:.1f} GPU-minutes"
    elif seconds < 100:
        text = f"{seconds:.0f} seconds"
    else:
        text = f"{seconds / 60:.0f} minutes"
    return f"at least {text} (a run in several parts)" if about.get("resumed") else text


def _ours(number: PaperNumber, interval: Interval) -> str:
    """Return our mean, its interval and n in the unit of the paper's number."""
    if not interval.n:
        return "not measured"

    def text(value: float) -> str:
        if number.unit == "times":
            return f"{value:.2f}"
        return format_number(value, "points", sign=number.unit == "points")

    unit = {"percent": " %", "points": " points", "times": " times"}[number.unit]
    if interval.n == 1:
        return f"{text(interval.mean)}{unit}, n = 1"
    ends = f"[{text(interval.low)}, {text(interval.high)}]"
    return f"{text(interval.mean)} {ends}{unit}, n = {interval.n}"


def _papers_table(numbers: list[tuple[PaperNumber, Interval]]) -> str:
    if not numbers:
        return "<p>No paper gives a number for this setting that could be checked.</p>"
    heads = "".join(f'<th scope="col">{h}</th>' for h in ("Quantity", "Paper", "Here"))
    rows = "".join(
        f"<tr><td>{html.escape(_sentence(number.quantity, stop=''))}</td>"
        f"<td>{html.escape(number.paper)}<small><a href='{html.escape(number.url)}'>"
        f"{html.escape(number.source)}</a>, {html.escape(number.seen)}</small></td>"
        f"<td>{html.escape(_ours(number, interval))}</td></tr>"
        for number, interval in numbers
    )
    return f"<table class='lth-papers'><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"


def _sentence(text: str, stop: str = ".") -> str:
    return text[0].upper() + text[1:] + stop
