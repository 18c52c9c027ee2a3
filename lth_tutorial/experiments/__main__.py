"""The command line of the recorded experiments."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from dataclasses import fields
from os.path import expanduser

from lth_tutorial.claims import claims
from lth_tutorial.data.sources import check_known, load_dataset, name_of_folder
from lth_tutorial.experiments import EXPERIMENTS, check_same, experiment
from lth_tutorial.experiments.budget import age_of_process, seconds_of
from lth_tutorial.experiments.cost import cost_of, in_minutes
from lth_tutorial.experiments.growing import growing
from lth_tutorial.experiments.measuring import pack, run_all, runs_folder
from lth_tutorial.experiments.merging import (
    by_kind,
    copy_checkpoints,
    find_tasks,
    merge_into,
)
from lth_tutorial.experiments.status import status, table
from lth_tutorial.experiments.tickets import has_tickets
from lth_tutorial.results.records import (
    load_provenance,
    load_rows,
    record_path,
    recorded,
    records_folder,
)
from lth_tutorial.runtime import limit_threads
from lth_tutorial.safety.files import check_writable
from lth_tutorial.safety.locks import only_writer


def main(arguments: list[str] | None = None, *, spent: float = 0.0) -> int:
    """Run one of the commands of `COMMANDS`; return the exit status.

    Args:
        spent: seconds of a budget that are spent already.
    """
    options = parser().parse_args(arguments)
    options.spent = spent
    try:
        status = COMMANDS[options.command](options) or 0
        sys.stdout.flush()  # here, where a closed pipe is an answer and no traceback
        return status
    except KeyboardInterrupt:
        command = shlex.join(sys.argv[1:] if arguments is None else arguments)
        print(where_it_goes_on(options, command), file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever reads the output has seen enough, as `head` has; at exit nothing more is written.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def where_it_goes_on(options: argparse.Namespace, arguments: str) -> str:
    """Return, in two lines, what is left of a run that was stopped, and what continues it."""
    command = f"python -m lth_tutorial.experiments {arguments}"
    places = ", ".join(map(str, getattr(options, "begun_in", ())))
    if not places:
        return f"stopped before anything was measured; no file was changed\nstart again: {command}"
    return f"stopped; all but the last seconds of it is in {places}\nit goes on with: {command}"


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(prog="python -m lth_tutorial.experiments")
    commands = made.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="all experiments and what is recorded of them")
    show = commands.add_parser("show", help="settings, cost and provenance of one")
    show.add_argument("name")
    runner = commands.add_parser(
        "run", help="measure what the records of some experiments lack; writes NAME.csv, NAME.json"
    )
    runner.add_argument("names", nargs="+", metavar="name")
    runner.add_argument("--scale", type=float, default=1.0, help="multiplies steps, in (0, 1]")
    extender = commands.add_parser(
        "extend", help="measure the seeds that a record lacks, at the scale of the record"
    )
    extender.add_argument("names", nargs=1, metavar="name")
    for command in (runner, extender):
        _add_running(command)
    runner.add_argument("--anew", action="store_true", help="measure what there is as well")
    merger = commands.add_parser(
        "merge", help="join records, finished tasks and checkpoints of other machines"
    )
    merger.add_argument("sources", nargs="+", type=expanduser, help="folders or buckets")
    merger.add_argument(
        "--out", type=expanduser, help="folder of the records (default: the package's own)"
    )
    merger.add_argument(
        "--prefer", default="", metavar="TEXT",
        help="of a task measured on two kinds of machine, take the one whose device or folder "
        "holds this text (default: the one finished first)",
    )  # fmt: skip
    status = commands.add_parser("status", help="how far all records are, part by part")
    status.add_argument("names", nargs="*", metavar="name")
    status.add_argument(
        "--out", type=expanduser, help="folder of the records (default: the package's own)"
    )
    status.add_argument("--device", default="cpu", help="for the estimate of the time left")
    packer = commands.add_parser("pack", help="write the packed tickets of the best runs of one")
    packer.add_argument("name")
    packer.add_argument("--root", type=expanduser, help="folder of downloaded data sets")
    packer.add_argument("--device", default="cpu")
    packer.add_argument(
        "--out", type=expanduser, help="folder for results (default: the package's own)"
    )
    return made


def _add_running(command: argparse.ArgumentParser) -> None:
    command.set_defaults(anew=False)
    command.add_argument(
        "--budget", type=seconds_of, metavar="TIME",
        help="stop cleanly before this time is up, e.g. 8m; the same command goes on",
    )  # fmt: skip
    command.add_argument("--part", action="append", help="only the part with this label")
    command.add_argument("--root", type=expanduser, help="folder of downloaded data sets")
    command.add_argument("--device", default="cpu")
    command.add_argument(
        "--out", type=expanduser, help="folder for results (default: the package's own)"
    )
    command.add_argument("--data", help="another data set: a name, or folder:PATH with images")
    command.add_argument(
        "--workdir",
        type=expanduser,
        help="folder to continue from if the run is killed; kept afterwards (default: one in "
        "~/.cache/lth_tutorial/runs, removed when the record is written)",
    )
    command.add_argument(
        "--store", metavar="PLACE", type=expanduser,
        help="folder or bucket (s3://…) for the files of finished tasks, shared by machines",
    )  # fmt: skip
    command.add_argument(
        "--ray", nargs="?", const="", metavar="ADDRESS",
        help="run on a Ray cluster: host:port, or auto; without an address, one on this machine",
    )  # fmt: skip
    command.add_argument(
        "--share", type=share_of, default=1.0, help="GPUs (or cores) that a job on Ray takes"
    )


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
    cost = cost_of(design)
    if cost is not None:
        times = ", ".join(f"{in_minutes(t)} on one {d}" for d, t in cost.minutes.items())
        print(f"estimated cost: {cost.steps:,} steps, {cost.operations / 1e15:,.2f} PFLOP; {times}")
    for part in design.parts:
        print(f"part {part.label or design.name} ({type(part).__name__}):")
        for field in fields(part):
            print(f"    {field.name}: {getattr(part, field.name)}")
    if name in recorded():
        print("recorded:")
        for key, value in load_provenance(name).items():
            print(f"    {key}: {value}")


def print_status(options: argparse.Namespace) -> None:
    """Print how far all records are."""
    print(table(status(options.names, options.out, options.device, runs_folder())))


def share_of(text: str) -> float:
    """Return a number above 0."""
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share < float("inf"):
        raise argparse.ArgumentTypeError(f"a share is a number above 0, like 0.5; got {text!r}")
    return share


def run_some(options: argparse.Namespace) -> int:
    """Measure what records lack."""
    return run_all(options)


def extend_one(options: argparse.Namespace) -> int:
    """Measure the seeds that a record lacks, by its own scale and data."""
    (name,) = options.names
    design, about = experiment(name), load_provenance(name, root=options.out)
    check_same(design, about, about["data"] if options.data is None else _name_of(options.data))
    if set(design.seeds) <= set(about["seeds"]):
        raise ValueError(
            f"the record of {name} has all {len(design.seeds)} seeds of the experiment; "
            f"name more in its definition first"
        )
    options.scale = about["scale"]
    return run_all(options)


def _name_of(data: str) -> str:
    folder = data.removeprefix("folder:")
    return data if folder == data else name_of_folder(folder)


def merge(options: argparse.Namespace) -> None:
    """Join what other machines measured into the records here."""
    found = [each for source in options.sources for each in find_tasks(source)]
    said = [line for source in options.sources for line in copy_checkpoints(source, runs_folder())]
    if not found and not said:
        raise ValueError(f"{', '.join(options.sources)}: no finished tasks and no checkpoints")
    check_writable(records_folder(options.out))
    for (name, data, scale), own in by_kind(found).items():
        with only_writer(record_path(name, root=options.out), wait=0):
            record = growing(experiment(name), scale, data, options.out)
            new, aside = merge_into(record, own, options.prefer)
        print(f"{name}: {new} new tasks, {len(record.tasks)} of {record.size} in all")
        if record.other:
            print(
                f"    not written yet: another record stands there ({record.other}), which only a "
                f"complete one replaces; keep the sources"
            )
        for path in aside:
            print(f"    set aside, measured on another kind of machine: {path}")
    print(*said, sep="\n", end="\n" if said else "")


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
    check_known(data)
    with only_writer(record_path(options.name, root=options.out), wait=0):
        pack(design, data, rows, options.out, None)


COMMANDS = {
    "list": lambda options: print_list(),
    "show": lambda options: print_one(options.name),
    "run": run_some,
    "extend": extend_one,
    "merge": merge,
    "status": lambda options: print_status(options),
    "pack": pack_one,
}

if __name__ == "__main__":
    sys.exit(main(spent=age_of_process()))
