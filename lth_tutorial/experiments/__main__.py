"""The command line of the recorded experiments."""

from __future__ import annotations

import argparse
import shutil
import sys
from dataclasses import fields
from pathlib import Path

from lth_tutorial.claims import claims
from lth_tutorial.datasets import load_dataset
from lth_tutorial.experiments import EXPERIMENTS, experiment, run, scaled
from lth_tutorial.records import check_writable, load_provenance, recorded, save_rows
from lth_tutorial.runtime import limit_threads


def main(arguments: list[str] | None = None) -> int:
    """Run one of the commands list, show and run; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m lth_tutorial.experiments")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="all experiments and what is recorded of them")
    show = commands.add_parser("show", help="settings and provenance of one")
    show.add_argument("name")
    runner = commands.add_parser("run", help="measure one; writes NAME.csv and NAME.json")
    runner.add_argument("name")
    runner.add_argument("--scale", type=float, default=1.0, help="multiplies steps, in (0, 1]")
    runner.add_argument("--data", help="another data set: a name, or folder:PATH with images")
    runner.add_argument("--root", help="folder of downloaded data sets")
    runner.add_argument("--device", default="cpu")
    runner.add_argument("--out", help="folder for the record (default: the package's records)")
    runner.add_argument(
        "--workdir",
        help="folder to continue from if the run is killed; kept afterwards (default: one in "
        "~/.cache/lth_tutorial/runs, removed when the record is written)",
    )
    options = parser.parse_args(arguments)
    try:
        if options.command == "list":
            print_list()
        elif options.command == "show":
            print_one(options.name)
        else:
            run_one(options)
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def print_list() -> None:
    """Print one line per experiment: scale, n, data, device, date and verdicts of its record."""
    verdicts = claims()
    for design in EXPERIMENTS:
        if design.name not in recorded():
            print(f"{design.name}: not yet run")
            continue
        about = load_provenance(design.name)
        print(
            f"{design.name}: scale {about['scale']:g}, n = {len(about['seeds'])}, {about['data']}, "
            f"{about['device']}, {about['date']}"
        )
        for _, claim in verdicts[verdicts["record"] == design.name].iterrows():
            print(f"    {claim['key']}: {claim['verdict']}")


def print_one(name: str) -> None:
    """Print the settings of an experiment and, if it is recorded, the provenance."""
    design = experiment(name)
    for field in fields(design):
        if field.name != "parts":
            print(f"{field.name}: {getattr(design, field.name)}")
    for part in design.parts:
        print(f"part {part.label or design.name} ({type(part).__name__}):")
        for field in fields(part):
            print(f"    {field.name}: {getattr(part, field.name)}")
    if name in recorded():
        print("recorded:")
        for key, value in load_provenance(name).items():
            print(f"    {key}: {value}")


def run_one(options: argparse.Namespace) -> None:
    """Measure one experiment and write its record."""
    design = experiment(options.name)
    scaled(design, options.scale)  # refuses a wrong scale before anything is loaded
    if options.name in recorded(root=options.out):
        existing = load_provenance(options.name, root=options.out)["scale"]
        if existing > options.scale:
            raise ValueError(
                f"there is a record of {options.name} at scale {existing:g}, which a run at scale "
                f"{options.scale:g} would replace; name another folder with --out"
            )
    check_writable(options.out)
    limit_threads()
    name = options.data or design.dataset
    data = load_dataset(name, root=options.root, device=options.device)
    workdir = options.workdir or _default_workdir(options.name, data.name, options.scale)
    if Path(workdir).exists():
        print(f"continuing from {workdir}")
    rows, provenance = run(design, data, scale=options.scale, workdir=workdir)
    print(f"wrote {save_rows(rows, design.name, provenance, root=options.out)}")
    if options.workdir is None:
        shutil.rmtree(workdir)


def _default_workdir(name: str, data: str, scale: float) -> Path:
    folder = f"{name}-{data.replace(':', '-')}-{scale:g}"
    return Path.home() / ".cache" / "lth_tutorial" / "runs" / folder


if __name__ == "__main__":
    sys.exit(main())
