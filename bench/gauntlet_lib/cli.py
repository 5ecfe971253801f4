"""The command line of bench/gauntlet."""

import argparse
import datetime
import json
import os
from pathlib import Path

from gauntlet_lib.machine import ROOT, Budget, Machine
from gauntlet_lib.parts import PARTS, SKIP_CODE, NoDevice, run_units, table
from gauntlet_lib.record import Record
from gauntlet_lib.rows import ROWS

OK, FAILED, TIME_RAN_OUT = 0, 1, 3
RESULTS = ROOT / "bench/results"


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="gauntlet",
        description="Runs the kernels on a GPU: --part tests checks them against the fp64 oracle, --part sanitizer runs a few "
        "cases under compute-sanitizer, --part bench times them beside the floor and PyTorch's attention. Needs no network. Every "
        "result is written as soon as it is known; a second run goes on where the first stopped.",
        epilog="Exit codes: 0 all is well; 1 something failed; 3 time ran out, run it again; 77 nothing could be run (no GPU).",
    )
    what = p.add_mutually_exclusive_group(required=True)
    what.add_argument("--part", choices=PARTS)
    what.add_argument("--list-specs", action="store_true", help="print the specs that are timed, a line each, for lathe warm")
    p.add_argument("--budget-s", type=float, default=540, help="seconds for everything (default %(default)s)")
    p.add_argument("--out", type=Path, default=RESULTS, help="where <device>-<date>.json is written (default bench/results)")
    p.add_argument("--bin", type=Path, help="where the programs are (default build/carry/bin, then build/bin)")
    p.add_argument(
        "--jobs", type=int, default=max(1, min(6, (os.cpu_count() or 1) // 2)), help="tests at a time (default %(default)s)"
    )
    p.add_argument("--dry-run", action="store_true", help="print what would be run, and run nothing")
    p.add_argument("--device-name", help="the GPU's name, where nvidia-smi cannot tell")
    p.add_argument("--date", default=datetime.date.today().isoformat(), help="day of the results file (default today)")
    return p


def say(text: str) -> None:
    print(text, flush=True)


def report(part: str, record: Record, late: list) -> int:
    if part == "bench":
        say(table(record))
    section = {"bench": "rows"}.get(part, part)
    results = record.data[section].values()
    counts = {status: sum(r["status"] == status for r in results) for status in ("ok", "failed", "refused", "skipped")}
    say(
        f"{part}: "
        + ", ".join(f"{n} {status}" for status, n in counts.items() if n)
        + f" on {record.data['device']}; {record.path}"
    )
    if late:
        say(f"no time was left for {len(late)}: {', '.join(unit.key for unit in late)}; run it again to go on")
    if counts["failed"]:
        return FAILED
    if late:
        return TIME_RAN_OUT
    return OK if counts["ok"] else SKIP_CODE


def run_part(options: argparse.Namespace, machine: Machine, budget: Budget) -> int:
    device = options.device_name or machine.device_name()
    if device is None and not options.dry_run:
        raise NoDevice("nvidia-smi finds no GPU")
    record = Record(options.out, device or "no device", options.date, seeds=(RESULTS,))
    units = PARTS[options.part](machine)
    if options.dry_run:
        for unit in units:
            state = "recorded" if record.has(unit.section, unit.key) else f"at most {unit.limit_s:.0f} s"
            say(f"{unit.section} {unit.key}: {state}")
        return OK
    jobs = options.jobs if options.part == "tests" else 1  # timings and sanitizers want the GPU to themselves
    late = run_units(units, record, budget, jobs, say)
    return report(options.part, record, late)


def timed_specs() -> list[str]:
    """As JSON, each once."""
    return list(dict.fromkeys(json.dumps(row.spec(layout)) for row in ROWS for layout in row.layouts))


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    if options.list_specs:
        say("\n".join(timed_specs()))
        return OK
    budget = Budget(options.budget_s)
    try:
        with Machine(options.bin) as machine:
            return run_part(options, machine, budget)
    except NoDevice as reason:
        say(f"SKIPPED: {reason}")
        return SKIP_CODE
