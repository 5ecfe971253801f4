"""Branches of the sources below a folder that a coverage build's tests took, from gcov's records.

usage: branch_coverage.py BUILD_DIR FOLDER [--least PERCENT]

Prints a row for each source, the branches that no test took, and the share of all. Branches that gcov marks as thrown along are
left out. Fails when the share is below PERCENT.
"""

import argparse
import collections
import glob
import json
import os
import subprocess
import sys


def records(build, folder):
    """gcov's record of each source file, from every object file below the build of `folder`."""
    for notes in sorted(glob.glob(os.path.join(build, folder, "**", "*.gcno"), recursive=True)):
        ran = subprocess.run(["gcov", "--json-format", "--stdout", "-b", notes], capture_output=True, text=True, check=True)
        for line in ran.stdout.splitlines():
            if line.strip():
                yield from json.loads(line)["files"]


def branches(build, folder, root):
    """{source: {(line, number): times taken}}, over all object files that hold the source."""
    taken = collections.defaultdict(lambda: collections.defaultdict(int))
    for record in records(build, folder):
        source = os.path.realpath(os.path.join(build, record["file"]))
        if not source.startswith(os.path.join(root, folder) + os.sep):
            continue
        for line in record["lines"]:
            number = 0
            for branch in line["branches"]:
                if branch["throw"]:
                    continue
                taken[os.path.relpath(source, root)][line["line_number"], number] += branch["count"]
                number += 1
    return taken


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("folder")
    parser.add_argument("--least", type=float, default=0)
    args = parser.parse_args()
    root = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
    found = branches(os.path.realpath(args.build), args.folder, root)
    if not found:
        sys.exit(f"no coverage of {args.folder} in {args.build}: was it built with the coverage preset?")
    covered = total = 0
    for source, counts in sorted(found.items()):
        lines = sorted({line for (line, _), count in counts.items() if count == 0})
        hit = sum(1 for count in counts.values() if count > 0)
        covered, total = covered + hit, total + len(counts)
        print(f"{source:32} {hit:4} of {len(counts):4}" + (f"   not all of line {', '.join(map(str, lines))}" if lines else ""))
    share = 100 * covered / max(1, total)
    print(f"branches of {args.folder}: {covered} of {total}, {share:.1f} %")
    sys.exit(0 if share >= args.least else 1)


if __name__ == "__main__":
    main()
