"""The table of figures in README.md: runs what each row names, and writes what was seen.

usage: figures.py BUILD_DIR [--full] [--only PATTERN] [--check]

A row is a test program, the tests of it that are run, and the words of their output that are the figure; where they print none, how
many passed. --full: the long trials too. --only: rows whose name matches; the others stay as they are. --check runs nothing: every
row's tests exist, and the page has a row for each.
"""

import argparse
import datetime
import os
import platform
import re
import subprocess
import sys

# Name, program, filter of GoogleTest, pattern of the figure in the output, whether it is a long trial. Of more than two matches,
# their number and the sum of their first numbers stand for all.
ROWS = [
    (
        "kill -9 at random while storing",
        "cache_process_test",
        "Processes.KilledWhileStoringLeaveNoCorruptEntry",
        r"(\d+ kills, .*)",
        False,
    ),
    ("the same, long", "cache_process_full_test", "ProcessesFull.KilledWhileStoringLeaveNoCorruptEntry", r"(\d+ kills, .*)", True),
    ("kill at each call in turn", "cache_process_test", "Processes.KilledAtEachCallLeaveNoCorruptEntry", None, False),
    (
        "two writers, two readers, a trimmer: killed, stopped, gone on at random",
        "cache_process_test",
        "Processes.KilledAndStoppedAtRandomServeNothingCorrupt",
        r"(\d+ kills and .*)",
        False,
    ),
    (
        "a trimmer killed at each call in turn",
        "cache_disk_cache_test",
        "Trim.AKilledTrimmerLeavesNothingForEver",
        r"(\d+ kills of .*)",
        False,
    ),
    (
        "kill at each named point, 200 times",
        "fault_test",
        "*CrashPoints*",
        r"(\d+) kills at \w+: each time the next process was served",
        False,
    ),
    ("each call fails in turn, inside the cache: 6 errnos, once and for ever", "cache_fault_test", "*FaultSweep*", None, False),
    (
        "each call fails in turn, under a process: 6 errnos, once and for ever",
        "fault_test",
        "*FaultSweep*",
        r"(\d+) runs, each with another call that failed \(\w+, \w+\), then one untouched: all served",
        False,
    ),
    ("full disk", "cache_fault_test", "Faults.AFullDiskKeepsNoPartialFile", r"(\d+ requests .*)", False),
    ("damage: every header bit, 10,000 payload bits, every length", "cache_entry_test", "*", None, False),
    ("damage in a root", "cache_disk_cache_test", "*DamagedEntry*", None, False),
    ("collisions of a hash cut to 4 bits", "cache_disk_cache_test", "DiskCache.ACollisionIsAMiss", None, False),
    ("8 processes cold on one key", "cache_process_test", "Processes.EightThatMissOneKeyCompileOnce", r"(\d+ processes.*)", False),
    (
        "64 processes cold on one key, 50 trials",
        "cache_process_test",
        "Processes.SixtyFourThatMissOneKeyCompileOnce",
        r"(\d+ processes.*)",
        False,
    ),
    (
        "the same, 500 trials",
        "cache_process_full_test",
        "ProcessesFull.SixtyFourThatMissOneKeyCompileOnce",
        r"(\d+ processes.*)",
        True,
    ),
    (
        "without locks and without sight of each other",
        "cache_process_test",
        "Processes.WithoutLocksEachCompilesAtMostOnce",
        r"(\d+ processes.*)",
        False,
    ),
    ("without locks, 60 s till others see a file", "cache_disk_cache_test", "NetworkDelay.*", r"(\d+ machines.*)", False),
    (
        "holder of a lock killed, stopped",
        "cache_process_test",
        "Processes.GoOnWhenTheHolderOfALockIsGone",
        r"(\d+ trials: .*)",
        False,
    ),
    (
        "the same, 500 trials of each",
        "cache_process_full_test",
        "ProcessesFull.GoOnWhenTheHolderOfALockIsGone",
        r"(\d+ trials: .*)",
        True,
    ),
    ("two layouts in one root, 10,000 operations", "cache_process_test", "Processes.OfTwoVersionsNeverReadEachOthers", None, False),
    (
        "trimmer against readers, 2 minutes",
        "cache_process_test",
        "Processes.ReadersAreNotDisturbedByTheTrimmer",
        r"(\d+ s of writers.*)",
        False,
    ),
    ("hostile roots", "cache_root_test", "*HostileRoot*", None, False),
    ("hostile bundles", "cache_bundle_test", "*", None, False),
    ("read-only cache: hits as read-write", "cache_disk_cache_test", "DiskCache.ReadOnly*", None, False),
    ("keys: every input changes them, two installations give one", "jit_engine_test", "CompileKey.*", None, False),
    ("failing compiles", "jit_leaks_test", "Leaks.*", r"(\d+ failing compiles, .*)", False),
    ("workers that crash, hang, eat memory, break the talk", "jit_worker_test", "WorkerPool.*", None, False),
    ("threads, kernels, two devices, one cache", "cuda_threads_test", "*", None, False),
    ("forked children", "cuda_test", "*Fork*", None, False),
    ("price of a hit of 100 KB, its checks included", "cache_cost_test", "*", r"a hit of 100 KB: (\d+ instructions)", False),
]

BEGIN, END = "<!-- figures: ./x figures -->", "<!-- end of figures -->"
PAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "README.md")


def figure(build, program, tests, pattern):
    """What a row's tests printed, or None when one failed."""
    ran = subprocess.run(
        [os.path.join(build, "bin", program), f"--gtest_filter={tests}"], capture_output=True, text=True, cwd=build
    )
    passed = re.search(r"\[  PASSED  \] (\d+) test", ran.stdout)
    if ran.returncode != 0 or passed is None or int(passed[1]) == 0:
        print(ran.stdout[-4000:], ran.stderr[-2000:], file=sys.stderr)
        return None
    skipped = ran.stdout.count("[  SKIPPED ]")
    words = [m.group(1) for m in re.finditer(pattern, ran.stdout)] if pattern else []
    if len(words) > 2:
        total = sum(int(re.match(r"\d+", word)[0]) for word in words)
        return f"{total:,} in {len(words)} trials: 0 failures"
    if words:
        return "; ".join(words)
    return f"{passed[1]} test{'s' if passed[1] != '1' else ''} passed" + (f", {skipped // 2} skipped" if skipped else "")


def listed(build, program, tests):
    ran = subprocess.run(
        [os.path.join(build, "bin", program), f"--gtest_filter={tests}", "--gtest_list_tests"], capture_output=True, text=True
    )
    return ran.returncode == 0 and re.search(r"^  \S", ran.stdout, re.M) is not None


def command(program, tests):
    return f"`{program} --gtest_filter='{tests}'`" if tests != "*" else f"`{program}`"


def page_parts():
    with open(PAGE, encoding="utf-8") as file:
        text = file.read()
    before, rest = text.split(BEGIN, 1)
    table, after = rest.split(END, 1)
    return before, table, after


def check(build):
    table = page_parts()[1]
    wrong = [row[0] for row in ROWS if not listed(build, row[1], row[2])]
    wrong += [row[0] for row in ROWS if f"| {row[0]} | {command(row[1], row[2])} |" not in table]
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
    kept = dict(re.findall(r"^\| ([^|]*) \| [^|]* \| (.*) \|$", old, re.M))
    lines, failed = [], []
    for name, program, tests, pattern, long in ROWS:
        if (long and not args.full) or not re.search(args.only, name):
            seen = kept.get(name, "not run")
        else:
            seen = figure(args.build, program, tests, pattern)
        if seen is None:
            failed.append(name)
            seen = "FAILED"
        print(f"{name}: {seen}", flush=True)
        lines.append(f"| {name} | {command(program, tests)} | {seen} |")
    day = datetime.date.today().isoformat()
    head = f"\nLast written {day}, on {os.cpu_count()} cores of {platform.machine()}.\n\n"
    head += "| What | Program of `build/bin` | Seen |\n|---|---|---|\n"
    with open(PAGE, "w", encoding="utf-8") as file:
        file.write(before + BEGIN + head + "\n".join(lines) + "\n" + END + after)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
