"""The table of figures in README.md: runs what each row names, and writes what was seen, and when.

usage: figures.py BUILD_DIR [--full] [--only PATTERN] [--check]

A row is a command and the words of its output that are the figure; of a test program that prints none, how many of its tests
passed. --full: the long trials too. --only: rows whose name matches. What is not run keeps its figure and its date. --check runs
nothing: every row's tests exist, and the page has a row for each.
"""

import argparse
import contextlib
import dataclasses
import datetime
import os
import platform
import re
import shlex
import subprocess
import sys


@dataclasses.dataclass
class Row:
    name: str
    command: str  # a program of build/bin with its arguments, or a job of ./x
    # Pattern: what it captures is the figure. Of more than three matches, their number and the sum of their first numbers.
    figure: str = ""
    long: bool = False

    @property
    def is_test(self):
        return self.command.split()[0].endswith("_test")

    def words(self, build):
        program, *arguments = shlex.split(self.command)
        return [os.path.join(ROOT, "x") if program == "./x" else os.path.join(build, "bin", program), *arguments]


ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))

ROWS = [
    Row(
        "kill -9 at random while storing",
        "cache_process_test --gtest_filter='Processes.KilledWhileStoringLeaveNoCorruptEntry'",
        r"(\d+ kills, .*)",
    ),
    Row(
        "the same, long",
        "cache_process_full_test --gtest_filter='ProcessesFull.KilledWhileStoringLeaveNoCorruptEntry'",
        r"(\d+ kills, .*)",
        long=True,
    ),
    Row("kill at each call in turn", "cache_process_test --gtest_filter='Processes.KilledAtEachCallLeaveNoCorruptEntry'"),
    Row(
        "two writers, two readers, a trimmer: killed, stopped, gone on at random",
        "cache_process_test --gtest_filter='Processes.KilledAndStoppedAtRandomServeNothingCorrupt'",
        r"(\d+ kills and .*)",
    ),
    Row(
        "a trimmer killed at each call in turn",
        "cache_disk_cache_test --gtest_filter='Trim.AKilledTrimmerLeavesNothingForEver'",
        r"(\d+ kills of .*)",
    ),
    Row(
        "kill at each named point, 200 times",
        "fault_test --gtest_filter='*CrashPoints*'",
        r"(\d+) kills at \w+: each time the next process was served",
    ),
    Row(
        "each call fails in turn, inside the cache: 6 errnos, once and for ever",
        "cache_fault_test --gtest_filter='*FaultSweep*'",
        r"(\d+) runs, each with another call",
    ),
    Row(
        "each call fails in turn, under a process: 6 errnos, once and for ever",
        "fault_test --gtest_filter='*FaultSweep*'",
        r"(\d+) runs, each with another call that failed \(\w+, \w+\), then one untouched: all served",
    ),
    Row("full disk", "cache_fault_test --gtest_filter='Faults.AFullDiskKeepsNoPartialFile'", r"(\d+ requests .*)"),
    Row("damage: every header bit, 10,000 payload bits, every length", "cache_entry_test", r"(\d+ (?:bits|lengths).*)"),
    Row("damage in a root", "cache_disk_cache_test --gtest_filter='*DamagedEntry*'"),
    Row("collisions of a hash cut to 4 bits", "cache_disk_cache_test --gtest_filter='DiskCache.ACollisionIsAMiss'", r"(64 keys.*)"),
    Row(
        "8 processes cold on one key",
        "cache_process_test --gtest_filter='Processes.EightThatMissOneKeyCompileOnce'",
        r"(\d+ processes.*)",
    ),
    Row(
        "64 processes cold on one key, 50 trials",
        "cache_process_test --gtest_filter='Processes.SixtyFourThatMissOneKeyCompileOnce'",
        r"(\d+ processes.*)",
    ),
    Row(
        "the same, 500 trials",
        "cache_process_full_test --gtest_filter='ProcessesFull.SixtyFourThatMissOneKeyCompileOnce'",
        r"(\d+ processes.*)",
        long=True,
    ),
    Row(
        "without locks and without sight of each other",
        "cache_process_test --gtest_filter='Processes.WithoutLocksEachCompilesAtMostOnce'",
        r"(\d+ processes.*)",
    ),
    Row("without locks, 60 s till others see a file", "cache_disk_cache_test --gtest_filter='NetworkDelay.*'", r"(\d+ machines.*)"),
    Row(
        "holder of a lock killed, stopped",
        "cache_process_test --gtest_filter='Processes.GoOnWhenTheHolderOfALockIsGone'",
        r"(\d+ trials: .*)",
    ),
    Row(
        "the same, 500 trials of each",
        "cache_process_full_test --gtest_filter='ProcessesFull.GoOnWhenTheHolderOfALockIsGone'",
        r"(\d+ trials: .*)",
        long=True,
    ),
    Row(
        "two layouts in one root, 10,000 operations",
        "cache_process_test --gtest_filter='Processes.OfTwoVersionsNeverReadEachOthers'",
        r"(\d+ operations.*)",
    ),
    Row(
        "trimmer against readers, 2 minutes",
        "cache_process_test --gtest_filter='Processes.ReadersAreNotDisturbedByTheTrimmer'",
        r"(\d+ s of writers.*)",
    ),
    Row("hostile roots", "cache_root_test --gtest_filter='*HostileRoot*'", r"(\d+) root refused"),
    Row(
        "strings that try to break out of a name in the source",
        "jit_render_test --gtest_filter='Injection.*'",
        r"(\d+ strings refused)",
    ),
    Row("hostile bundles", "cache_bundle_test"),
    Row(
        "read-only cache: hits as read-write", "cache_disk_cache_test --gtest_filter='DiskCache.ReadOnly*'", r"(\d+ of 100 found.*)"
    ),
    Row("keys: every input changes them, two installations give one", "jit_engine_test --gtest_filter='CompileKey.*'"),
    Row("failing compiles", "jit_leaks_test --gtest_filter='Leaks.*'", r"(\d+ failing compiles, .*)"),
    Row("workers that crash, hang, eat memory, break the talk", "jit_worker_test --gtest_filter='WorkerPool.*'"),
    Row("threads, kernels, two devices, one cache", "cuda_threads_test"),
    Row("forked children", "cuda_test --gtest_filter='*Fork*'"),
    Row("price of a hit of 100 KB, its checks included", "cache_cost_test", r"a hit of 100 KB: (\d+ instructions)"),
    Row(
        "price of 100 KB: a hit, a hit in a bundle (SHA-256), a store without and with fsync",
        "cache_bench --benchmark_filter=/.*100000 --benchmark_repetitions=5",
        r"(?m)^(\w+)/(?:bytes:)?100000(?:/(fsync:\d))?_median +(\d+ ns)",
    ),
    Row("branches of the cache that its tests take", "./x coverage", r"branches of cache: (.*)", long=True),
    Row(
        "bytes from outside: each parser, half an hour under libFuzzer",
        "./x fuzz --full",
        r"(\w+: \d+ inputs) in 1800 s, 0 findings",
        long=True,
    ),
]

BEGIN, END = "<!-- figures: ./x figures -->", "<!-- end of figures -->"
PAGE = os.path.join(ROOT, "README.md")
HEAD = "| What | Program of `build/bin`, or job | Seen | When |\n|---|---|---|---|\n"


def seen_by(row, build):
    """What a row's command printed, or None when it failed."""
    ran = subprocess.run(row.words(build), capture_output=True, text=True, cwd=ROOT)
    passed = re.search(r"\[  PASSED  \] (\d+) test", ran.stdout)
    found = [" ".join(filter(None, match.groups())) for match in re.finditer(row.figure, ran.stdout)] if row.figure else []
    nothing = passed is None or int(passed[1]) == 0 if row.is_test else not found
    if ran.returncode != 0 or nothing:
        print(ran.stdout[-4000:], ran.stderr[-2000:], file=sys.stderr)
        return None
    if found and all(re.match(r"\d", word) for word in found) and len(found) > 3:
        total = sum(int(re.match(r"\d+", word)[0]) for word in found)
        return f"{total:,} in {len(found)} trials: 0 failures"
    if found:
        return "; ".join(found)
    skipped = ran.stdout.count("[  SKIPPED ]")
    return f"{passed[1]} test{'s' if passed[1] != '1' else ''} passed" + (f", {skipped // 2} skipped" if skipped else "")


def listed(row, build):
    if not row.is_test:
        return True
    ran = subprocess.run([*row.words(build), "--gtest_list_tests"], capture_output=True, text=True)
    return ran.returncode == 0 and re.search(r"^  \S", ran.stdout, re.M) is not None


def processor():
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                return line.split(":")[1].strip()
    return platform.machine()


def page_parts():
    with open(PAGE, encoding="utf-8") as file:
        text = file.read()
    before, rest = text.split(BEGIN, 1)
    table, after = rest.split(END, 1)
    return before, table, after


def check(build):
    table = page_parts()[1]
    wrong = [row.name for row in ROWS if not listed(row, build) or f"| {row.name} | `{row.command}` |" not in table]
    for name in wrong:
        print(f"FAIL {name}: no such tests, or no row in README.md (./x figures writes it)")
    sys.exit(1 if wrong else 0)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--only", default="", metavar="PATTERN")
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    if args.check:
        check(args.build)
    before, old, after = page_parts()
    kept = {name: (seen, day) for name, seen, day in re.findall(r"^\| ([^|]*) \| [^|]* \| (.*) \| ([^|]*) \|$", old, re.M)}
    today = f"{datetime.date.today().isoformat()}, {os.cpu_count()} cores of {processor()}"
    lines, failed = [], []
    for row in ROWS:
        if (row.long and not args.full) or not re.search(args.only, row.name):
            seen, day = kept.get(row.name, ("not run", ""))
        else:
            seen, day = seen_by(row, args.build), today
            print(f"{row.name}: {seen or 'FAILED'}", flush=True)
        if seen is None:
            failed.append(row.name)
        lines.append(f"| {row.name} | `{row.command}` | {seen or 'FAILED'} | {day} |")
    with open(PAGE, "w", encoding="utf-8") as file:
        file.write(before + BEGIN + "\n" + HEAD + "\n".join(lines) + "\n" + END + after)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
