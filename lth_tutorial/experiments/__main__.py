"""The command line of the recorded experiments."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

from lth_tutorial.claims import claims
from lth_tutorial.data.dataset import Dataset
from lth_tutorial.data.sources import load_dataset
from lth_tutorial.experiments import (
    EXPERIMENTS,
    Experiment,
    check_same,
    experiment,
    extend,
    missing_seeds,
    run,
    scaled,
)
from lth_tutorial.experiments.looks import SHIPPED
from lth_tutorial.experiments.tickets import has_tickets, pack_tickets
from lth_tutorial.results.records import (
    check_writable,
    load_provenance,
    load_rows,
    only_writer,
    record_path,
    recorded,
    save_rows,
)
from lth_tutorial.runtime import limit_threads, write_atomically
from lth_tutorial.supermask.shipped import shipped_folder
from lth_tutorial.variants.shipped import shipped_files


def main(arguments: list[str] | None = None) -> int:
    """Run one of the commands list, show, run, extend and pack; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m lth_tutorial.experiments")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="all experiments and what is recorded of them")
    show = commands.add_parser("show", help="settings and provenance of one")
    show.add_argument("name")
    runner = commands.add_parser("run", help="measure one; writes NAME.csv and NAME.json")
    runner.add_argument("name")
    runner.add_argument("--scale", type=float, default=1.0, help="multiplies steps, in (0, 1]")
    extender = commands.add_parser(
        "extend", help="measure the seeds of one that its record lacks, by the record's settings"
    )
    extender.add_argument("name")
    packer = commands.add_parser("pack", help="write the packed tickets of the best runs of one")
    packer.add_argument("name")
    for command in (runner, extender, packer):
        command.add_argument("--root", help="folder of downloaded data sets")
        command.add_argument("--device", default="cpu")
        command.add_argument("--out", help="folder for results (default: the package's own)")
        if command is packer:
            continue
        command.add_argument("--data", help="another data set: a name, or folder:PATH with images")
        command.add_argument(
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
        elif options.command == "run":
            run_one(options)
        elif options.command == "extend":
            extend_one(options)
        else:
            pack_one(options)
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
    _check_replaceable(options)
    limit_threads()
    data = load_dataset(options.data or design.dataset, root=options.root, device=options.device)
    with _work(options, f"{data.name}-{options.scale:g}") as workdir:
        # Again: nobody else writes it from here on.
        _check_replaceable(options)
        rows, provenance = run(design, data, scale=options.scale, workdir=workdir)
        print(f"wrote {save_rows(rows, design.name, provenance, root=options.out)}")
        _ship(design, options.out, workdir)
        if options.scale == 1 and options.data is None:
            _pack(design, data, rows, options.out, workdir)


def _check_replaceable(options: argparse.Namespace) -> None:
    if options.name in recorded(root=options.out):
        existing = load_provenance(options.name, root=options.out)["scale"]
        if existing > options.scale:
            raise ValueError(
                f"there is a record of {options.name} at scale {existing:g}, which a run at scale "
                f"{options.scale:g} would replace; name another folder with --out"
            )


def pack_one(options: argparse.Namespace) -> None:
    """Search the best runs of a recorded experiment once more, and write their packed tickets."""
    design, rows = experiment(options.name), load_rows(options.name, root=options.out)
    if not has_tickets(design):
        raise ValueError(
            f"{design.name} names no arms to pack; these do: "
            f"{', '.join(each.name for each in EXPERIMENTS if has_tickets(each))}"
        )
    about = rows.attrs["provenance"]
    if about["scale"] < 1:
        raise ValueError(
            f"the record of {design.name} has scale {about['scale']:g}, and a packed ticket is of "
            f"a whole run; run it at scale 1 first"
        )
    check_same(design, about, design.dataset)
    limit_threads()
    data = load_dataset(design.dataset, root=options.root, device=options.device)
    with only_writer(record_path(options.name, root=options.out)):
        _pack(design, data, rows, options.out, None)


def _pack(design: Experiment, data: Dataset, rows, out: str | None, workdir: Path | None) -> None:
    folder = shipped_folder() if out is None else Path(out)
    for path in pack_tickets(design, data, rows, folder, workdir=workdir):
        print(f"wrote {path}")


def _ship(design: Experiment, out: str | None, workdir: Path) -> None:
    """Copy what parts have left for the record, such as masks, to where it is loaded from."""
    for path in sorted(workdir.glob(f"part_*/{SHIPPED}/*")):
        target = shipped_files(design.name, root=out) / path.name
        write_atomically(target, path.read_bytes())
        print(f"wrote {target}")


def extend_one(options: argparse.Namespace) -> None:
    """Measure the seeds that a record lacks, and write it with their rows added."""
    design, rows = experiment(options.name), load_rows(options.name, root=options.out)
    limit_threads()
    data = load_dataset(options.data or design.dataset, root=options.root, device=options.device)
    about = rows.attrs["provenance"]
    seeds = missing_seeds(design, about, data.name)
    with _work(options, f"{data.name}-{about['scale']:g}-seeds-{seeds[0]}-{seeds[-1]}") as workdir:
        # Again: nobody else writes it from here on.
        rows = load_rows(options.name, root=options.out)
        rows, provenance = extend(design, data, rows, workdir=workdir)
        print(f"wrote {save_rows(rows, design.name, provenance, root=options.out)}")
        if has_tickets(design):
            print(f"the best seed may be another now; this packs it: pack {design.name}")


@contextmanager
def _work(options: argparse.Namespace, name: str) -> Iterator[Path]:
    """Give a folder to work in, and keep other runs away from it and from the record."""
    check_writable(options.out)
    default = Path.home() / ".cache" / "lth_tutorial" / "runs"
    folder = default / f"{options.name}-{name.replace(':', '-')}"
    workdir = Path(options.workdir or folder)
    with only_writer(record_path(options.name, root=options.out)), only_writer(workdir):
        if workdir.exists():
            print(f"continuing from {workdir}")
        yield workdir
        if options.workdir is None:
            shutil.rmtree(workdir)


if __name__ == "__main__":
    sys.exit(main())
