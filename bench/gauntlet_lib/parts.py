"""The three parts: tests, sanitizer, bench. Each is a list of units: one figure or verdict, recorded as soon as it is known."""

import functools
import json
import re
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from gauntlet_lib.machine import ROOT, TIMED_OUT, Budget, Machine, Outcome, run
from gauntlet_lib.peers import PEERS
from gauntlet_lib.record import Record
from gauntlet_lib.rows import ROWS, Row

SKIP_CODE = 77  # of programs that find no GPU
SANITIZERS = ("memcheck", "racecheck", "synccheck")
SANITIZED_CASES = 3
TAIL = 4000  # characters of a failure's output that are kept
# Published ceilings, for machines without PyTorch to measure them: (bytes/s of a copy, bf16 FLOP/s of a large product).
KNOWN_CEILINGS = {"H200": (4.3e12, 788e12), "H100": (3.0e12, 798e12)}


class NoDevice(Exception):
    """There is no GPU to run on."""


@dataclass
class Unit:
    section: str  # of the results file
    key: str
    limit_s: float  # it is stopped after this
    least_s: float  # it is not started with less left
    work: Callable[[float], dict]  # takes its limit in seconds


def verdict(done: Outcome) -> dict:
    if done.rc == SKIP_CODE:
        raise NoDevice(done.out.strip()[-TAIL:])
    result = {"status": "ok" if done.rc == 0 else "failed", "seconds": round(done.seconds, 1)}
    if done.rc != 0:
        reason = "ran past its time limit" if done.rc == TIMED_OUT else f"exit code {done.rc}"
        result |= {"reason": reason, "output": done.out[-TAIL:]}
    return result


# ---- tests and sanitizer ---------------------------------------------------------------------------------------------------------


def list_tests(machine: Machine) -> list[str]:
    program = machine.program("lathe-gpu-tests")
    if program is None:
        raise NoDevice("lathe-gpu-tests is not here: build it, then bench/carry.sh")
    done = run([program, "--gtest_list_tests"], 60, machine.env)
    if done.rc != 0:
        raise RuntimeError(f"lathe-gpu-tests --gtest_list_tests failed ({done.rc}):\n{done.out[-TAIL:]}")
    names, suite = [], ""
    for line in done.out.splitlines():
        line = line.split("#")[0].rstrip()
        if re.fullmatch(r"\S+\.", line):
            suite = line
        elif line.startswith("  ") and suite:
            names.append(suite + line.strip())
    return names


def test_units(machine: Machine) -> list[Unit]:
    program = machine.program("lathe-gpu-tests")

    def unit(name: str) -> Unit:
        return Unit("tests", name, 300, 20, lambda limit: verdict(run([program, f"--gtest_filter={name}"], limit, machine.env)))

    return [unit(name) for name in list_tests(machine) if "GpuSanitizer" not in name] + python_units(machine)


def sanitizer_units(machine: Machine) -> list[Unit]:
    tests = [name for name in list_tests(machine) if "GpuSanitizer" in name]
    program, tool = machine.program("lathe-gpu-tests"), machine.sanitizer()

    def unit(kind: str, name: str) -> Unit:
        def work(limit: float) -> dict:
            if tool is None:
                return {"status": "skipped", "reason": "compute-sanitizer is not installed"}
            command = [tool, "--tool", kind, "--error-exitcode", "9", program, f"--gtest_filter={name}"]
            return verdict(run(command, limit, machine.env))

        return Unit("sanitizer", f"{kind}/{name}", 300, 30, work)

    return [unit(kind, name) for kind in SANITIZERS for name in (tests if kind == "memcheck" else tests[:SANITIZED_CASES])]


# ---- the suites of the Python package, with tensors of the GPU -------------------------------------------------------------------

NO_TESTS = 5  # of pytest, where a whole file is skipped
NOTHING_RAN = re.compile(r"^[0-9]+ skipped(, [0-9]+ warnings?)? in ", re.MULTILINE)
HAS_PACKAGE = "import pytest, lathe.torch; print(lathe.torch.library())"


def python_units(machine: Machine) -> list[Unit]:
    """A file of tests/python each; skipped, with the reason, where this Python cannot load the package."""
    package = machine.package()
    env = machine.env | {"LATHE_TEST_DEVICE": "cuda", "PYTHONDONTWRITEBYTECODE": "1"}
    if package is not None:
        env |= {"PYTHONPATH": str(package), "LD_LIBRARY_PATH": f"{package / 'lathe/lib'}:{env.get('LD_LIBRARY_PATH', '')}"}

    @functools.cache
    def why_not() -> str | None:
        if package is None:
            return "the operators for PyTorch are not here: build them, then bench/carry.sh"
        loaded = run([sys.executable, "-c", HAS_PACKAGE], 120, env)
        return None if loaded.rc == 0 else (loaded.out.strip().splitlines() or ["it cannot be imported"])[-1]

    def unit(file: Path) -> Unit:
        def work(limit: float) -> dict:
            if reason := why_not():
                return {"status": "skipped", "reason": reason}
            done = run([sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", file], limit, env)
            if done.rc in (0, NO_TESTS) and NOTHING_RAN.search(done.out):
                return {"status": "skipped", "reason": "pytest skipped all of it", "output": done.out[-TAIL:]}
            return verdict(done)

        return Unit("tests", f"python/{file.name}", 600, 60, work)

    return [unit(file) for file in sorted((ROOT / "tests/python").glob("test_*.py"))]


# ---- bench -----------------------------------------------------------------------------------------------------------------------


def lathe_unit(machine: Machine, row: Row, layout: str) -> Unit:
    def work(limit: float) -> dict:
        program = machine.program("lathe-bench-gpu")
        if program is None:
            raise NoDevice("lathe-bench-gpu is not here: build it, then bench/carry.sh")
        with tempfile.TemporaryDirectory() as folder:
            spec, batch = Path(folder) / "spec.json", Path(folder) / "batch.json"
            spec.write_text(json.dumps(row.spec(layout)))
            batch.write_text(json.dumps(row.batch()))
            done = run([program, "--spec", spec, "--batch", batch], limit, machine.env_for_timing())
        return {**last_json(done.out), **verdict(done)}

    return Unit("rows", f"{row.id}/{layout}/lathe", 120, 20, work)


def peer_unit(machine: Machine, row: Row, peer: str) -> Unit:
    return Unit("rows", f"{row.id}/{peer}", 150, 30, lambda limit: run_peer(machine, [peer, row.id], limit))


def run_peer(machine: Machine, arguments: list[str], limit: float) -> dict:
    return run_module("gauntlet_lib.peers", arguments, limit, machine.env)


def run_module(module: str, arguments: list, limit: float, env: dict) -> dict:
    """What a module of the gauntlet's own prints."""
    env = env | {"PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
    done = run([sys.executable, "-m", module, *arguments], limit, env)
    return {**verdict(done), **last_json(done.out)}


def operator_unit(machine: Machine, row: Row, layout: str) -> Unit:
    """The same through torch.ops.lathe.run: `us` of eager calls, `graph_us` of replays."""

    def work(limit: float) -> dict:
        package = machine.package()
        if package is None:
            return {"status": "skipped", "reason": "the operators for PyTorch are not here: build them, then bench/carry.sh"}
        library = package / "lathe/lib/liblathe_torch.so"
        return run_module("gauntlet_lib.torch_op", [library, row.id, layout], limit, machine.env_for_timing())

    return Unit("rows", f"{row.id}/{layout}/torch", 180, 30, work)


def last_json(text: str) -> dict:
    """The JSON object that a program's output ends with; what it printed before, warnings say, is passed over."""
    decoder = json.JSONDecoder()
    for match in re.finditer(r"^\{", text, re.MULTILINE):
        try:
            found, end = decoder.raw_decode(text, match.start())
        except ValueError:
            continue
        if not text[end:].strip():
            return found
    return {}


def bench_units(machine: Machine) -> list[Unit]:
    units = [Unit("facts", "ceilings", 90, 20, lambda limit: run_peer(machine, ["ceilings"], limit))]
    units += [lathe_unit(machine, row, layout) for row in ROWS for layout in row.layouts]
    units += [operator_unit(machine, row, layout) for row in ROWS for layout in row.layouts]
    units += [peer_unit(machine, row, peer) for row in ROWS for peer in PEERS]
    return units


PARTS = {"tests": test_units, "sanitizer": sanitizer_units, "bench": bench_units}


def run_units(units: list[Unit], record: Record, budget: Budget, jobs: int, say: Callable[[str], None]) -> list[Unit]:
    """Runs what is not recorded yet; returns the units for which no time was left."""
    late = []

    def one(unit: Unit) -> tuple[Unit, dict | None]:
        if not budget.allows(unit.least_s):
            return unit, None
        return unit, unit.work(min(unit.limit_s, budget.left() - 5))

    todo = [unit for unit in units if not record.has(unit.section, unit.key)]
    if len(todo) < len(units):
        say(f"{len(units) - len(todo)} of {len(units)} are recorded already in {record.path.name}")
    with ThreadPoolExecutor(jobs) as pool:
        for unit, result in pool.map(one, todo):
            if result is None:
                late.append(unit)
                continue
            record.put(unit.section, unit.key, result)
            say(f"{unit.key}: {result['status']}" + (f" ({result['reason']})" if "reason" in result else ""))
    return late


# ---- the table -------------------------------------------------------------------------------------------------------------------


def ceilings_of(record: Record) -> tuple[float, float] | None:
    """(bytes/s, FLOP/s): measured, else known for the device, else none."""
    measured = record.data["facts"].get("ceilings", {})
    if measured.get("status") == "ok":
        return measured["bytes_per_s"], measured["flop_per_s"]
    return next((known for name, known in KNOWN_CEILINGS.items() if name in record.data["device"]), None)


def table(record: Record) -> str:
    ceilings = ceilings_of(record)
    lines = [f"{'row':<4} {'what':<18} {'us':>9} {'p10..p90':>17} {'floor':>8} {'of floor':>8} {'TFLOP/s':>8} {'GB/s':>7}  note"]
    for row in ROWS:
        floor = row.floor_us(ceilings[1], ceilings[0]) if ceilings else None
        lines.append(f"{row.id:<4} {row.title}; target {row.target}")
        names = [f"{layout}/{by}" for layout in row.layouts for by in ("lathe", "torch")] + list(PEERS)
        lines += [line(row, name, record.data["rows"].get(f"{row.id}/{name}"), floor) for name in names]
    return "\n".join(lines)


def line(row: Row, name: str, result: dict | None, floor: float | None) -> str:
    head = f"{'':<4} {name:<18} "
    if result is None:
        return head + f"{'-':>9}  not run"
    if "us" not in result:
        reasons = [result[key] for key in ("reason", "error") if result.get(key)]
        return head + f"{'-':>9}  {result['status']}: {': '.join(reasons)}"
    us = result["us"]["median"]
    span = f"{result['us']['p10']:.1f}..{result['us']['p90']:.1f}"
    share = f"{floor:>8.1f} {100 * floor / us:>7.1f}%" if floor else f"{'-':>8} {'-':>8}"
    rates = f"{row.flop() / us * 1e-6:>8.1f} {row.bytes() / us * 1e-3:>7.0f}"
    notes = [] if result["status"] == "ok" else [f"{result['status']}: {result.get('reason', '')}"]
    notes += ["compiled here"] if result.get("kernel", {}).get("compiled_here") else []
    if "graph_us" in result and name.endswith("/torch"):
        notes.append(f"replayed {result['graph_us']['median']:.1f} us, on the host {result['host_us']['mean']:.1f} us a call")
    notes += [result["note"]] if result.get("note") else []
    return head + f"{us:>9.1f} {span:>17} {share} {rates}  {'; '.join(notes)}"
