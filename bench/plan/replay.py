#!/usr/bin/env python3
"""Replays the public traces and two laws of lengths through the scheduler (docs/replay.md), and records what came out."""

import argparse
import datetime
import hashlib
import json
import os
import platform
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
TRACES = ("azure_llm_2023_conv.csv", "azure_llm_2023_code.csv", "mooncake_conversation.jsonl")
BATCHES = (16, 64, 256)
CHUNKS = (2048, 0)  # 0: prompts are computed elsewhere, so that every step is one of decodes
LAWS = ("zipf", "one-long")
POLICIES = ("ours", "shared", "uniform_chunk", "no_split")
SHAPE = ("--heads", "32/8", "--head-dim", "128", "--sms", "132")

IMBALANCE = {"p50": 1.02, "p99": 1.05}
DECODE_LOSS = {16: 1.25, 64: 1.12, 256: 1.08}  # p99
LAW_IMBALANCE, LAW_LOSS = 1.03, 1.12  # the greatest
SHARING = 1.05  # bytes read in steps that share keys, over those of every page read once


def say(text: str) -> None:
    print(text, flush=True)


def cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def commit() -> str:
    done = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"], capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def jobs(folder: Path | None, max_steps: int | None) -> tuple[list[list[str]], list[dict]]:
    """The arguments of every run, and the traces they use."""
    limit = ["--max-steps", str(max_steps)] if max_steps else []
    runs, traces = [], []
    for name in TRACES:
        path = folder / name if folder else None
        if path is None or not path.is_file():
            say(f"skipped {name}: " + ("LATHE_TRACE_DIR is not set" if path is None else f"not in {folder}"))
            traces.append({"file": name, "skipped": True})
            continue
        traces.append({"file": name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()})
        for batch in BATCHES:
            for chunk in CHUNKS:
                runs.append(["--trace", str(path), "--batch", str(batch), "--chunk", str(chunk), *SHAPE, *limit])
    runs += [["--synthetic", law, "--batch", "64", *SHAPE, *limit] for law in LAWS]
    return runs, traces


def run(lathe: Path, arguments: list[str]) -> dict:
    command = [str(lathe), "plan", *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{shlex.join(command)}: exit code {done.returncode}\n{done.stderr}")
    result = json.loads(done.stdout)
    if "trace" in result:  # where the file lies is of no interest
        name = Path(result["trace"]["file"]).name
        arguments = [name if word == result["trace"]["file"] else word for word in arguments]
        result["trace"]["file"] = name
    say(f"{result['seconds']:7.1f} s  lathe plan {shlex.join(arguments)}")
    return {"command": shlex.join(["lathe", "plan", *arguments, "--json"]), **result}


def name_of(result: dict) -> str:
    if "synthetic" in result:
        return f"{result['synthetic']['kind']} {result['batch']}"
    return f"{result['trace']['file'].split('.')[0]} {result['batch']}" + ("" if result["chunk"] else " decodes")


def bounds(result: dict) -> list[dict]:
    """What is promised of `ours`, and of `shared` where it shares, in this run: value and limit."""
    checks = []

    def check(kind: str, figure: str, rank: str, limit: float) -> None:
        value = result["ours"][kind][figure][rank]
        checks.append({"what": f"{name_of(result)}, {kind}, {figure} {rank}", "value": value, "limit": limit, "ok": value <= limit})

    for kind in ("decode", "mixed"):
        if result["ours"][kind]["steps"] == 0:
            continue
        if "synthetic" in result:
            check(kind, "imbalance", "max", LAW_IMBALANCE)
            check(kind, "efficiency_loss", "max", LAW_LOSS)
            continue
        for rank, limit in IMBALANCE.items():
            check(kind, "imbalance", rank, limit)
        if kind == "decode":
            check(kind, "efficiency_loss", "p99", DECODE_LOSS[result["batch"]])
    if sharing := result["shared"]["decode"].get("sharing"):
        value = sharing["bytes"] / sharing["distinct_bytes"]
        what = f"{name_of(result)}, {sharing['steps']} decode steps that share, bytes over every page once"
        checks.append({"what": what, "value": value, "limit": SHARING, "ok": value <= SHARING})
    return checks


def table(results: list[dict]) -> str:
    head = ("", "steps", "policy", "imbalance p50", "p99", "max", "loss p50", "p99", "max", "plan us p50", "p99")
    rows = [head]
    for result in results:
        for kind in ("decode", "mixed"):
            for policy in POLICIES:
                figures = result[policy][kind]
                if figures["steps"] == 0:
                    continue
                first = (f"{name_of(result)}, {kind}", str(figures["steps"])) if policy == POLICIES[0] else ("", "")
                values = [f"{figures[f][r]:.3f}" for f in ("imbalance", "efficiency_loss") for r in ("p50", "p99", "max")]
                values += [f"{figures['plan_us'][r]:.1f}" for r in ("p50", "p99")]
                rows.append((*first, policy, *values))
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__, epilog="Traces are looked for in the folder that LATHE_TRACE_DIR names.")
    p.add_argument("--lathe", type=Path, default=ROOT / "build/release/bin/lathe", help="the program (default %(default)s)")
    p.add_argument("--out", type=Path, default=ROOT / "bench/results", help="where plan-replay-<date>.json is written")
    p.add_argument("--date", default=datetime.date.today().isoformat(), help="default today")
    p.add_argument("--jobs", type=int, default=1, help="runs at a time; more than one disturbs the times of planning")
    p.add_argument("--max-steps", type=int, help="of each run, for a quick look")
    options = p.parse_args()
    if not os.access(options.lathe, os.X_OK):
        p.error(f"there is no program {options.lathe}: ./x bench builds it")

    folder = os.environ.get("LATHE_TRACE_DIR")
    runs, traces = jobs(Path(folder) if folder else None, options.max_steps)
    with ThreadPoolExecutor(options.jobs) as pool:
        results = list(pool.map(lambda arguments: run(options.lathe, arguments), runs))
    checks = [check for result in results for check in bounds(result)]
    record = {
        "date": options.date,
        "machine": {"cpu": cpu_name(), "cores": os.cpu_count(), "load": os.getloadavg()[0], "jobs": options.jobs},
        "commit": commit(),
        "traces": traces,
        "bounds": checks,
        "runs": results,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"plan-replay-{options.date}.json"
    path.write_text(json.dumps(record, indent=1) + "\n")

    say("\n" + table(results))
    broken = [check for check in checks if not check["ok"]]
    say(f"\n{len(checks) - len(broken)} of {len(checks)} bounds hold; {path}")
    for check in broken:
        say(f"  broken: {check['what']} is {check['value']:.3f}, allowed {check['limit']}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
