"""The dependency rule, held against the build: which include roots each library is compiled with, and that a wrong include fails.

usage: layers_test.py BUILD_DIR
"""

import itertools
import json
import os
import shlex
import subprocess
import sys

SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

# Folder -> what it may see besides itself (docs/README.md). Transitive: a folder sees what its neighbours may see.
RULE = {
    "csrc/base": [],
    "csrc/spec": ["base"],
    "csrc/arch": ["base", "spec"],
    "csrc/plan": ["base", "spec", "arch", "abi"],
    "csrc/replay": ["base", "spec", "arch", "plan", "abi"],
    "cache": ["base"],
    "jit": ["base", "spec", "arch", "cache"],
    "csrc/runtime": ["base", "spec", "arch", "cache", "jit", "plan", "abi"],
    "csrc/api": ["base", "spec", "arch", "cache", "jit", "plan", "abi", "runtime"],
    "csrc/capi": ["base", "spec", "arch", "cache", "jit", "plan", "abi", "runtime", "api"],
}


def units(build):
    """(folder, file, include roots seen, command) of every file of a library named in RULE. A file may stand for several of its
    folder that are compiled together, and lies then in the build."""
    with open(os.path.join(build, "compile_commands.json"), encoding="utf-8") as file:
        commands = json.load(file)
    roots = os.path.join(build, "include-roots") + os.sep
    for entry in commands:
        parents = (build, SOURCE)  # the build may lie inside the source
        parent = next((p for p in parents if entry["file"].startswith(p + os.sep)), None)
        name = os.path.relpath(entry["file"], parent) if parent else ""
        folder = next((f for f in RULE if name.startswith(f + "/")), None)
        if folder is None:
            continue
        words = shlex.split(entry["command"])
        paths = [w[2:] for w in words if w.startswith("-I")]
        paths += [words[i + 1] for i, w in enumerate(words) if w in ("-isystem", "-I")]
        seen = {p[len(roots) :].split(os.sep)[0] for p in paths if p.startswith(roots)}
        yield folder, name, seen, entry


def main():
    build = os.path.abspath(sys.argv[1])
    failures = []
    folders = set()
    base = None
    for folder, name, seen, entry in units(build):
        folders.add(folder)
        if folder == "csrc/base":
            base = entry
        own = os.path.basename(folder)
        allowed = set(RULE[folder]) | {own, own + "_testing"}
        for extra in sorted(seen - allowed):
            failures.append(f"{name} is compiled with the include root of {extra}; {folder} may see {sorted(allowed)}")
    for folder in sorted(set(RULE) - folders):
        failures.append(f"no file of {folder} is in the build")
    if base is None:
        sys.exit("FAIL: compile_commands.json holds nothing of csrc/base")

    # The roots do keep headers apart: with base's command, base's header is found and spec's is not.
    for header, should_compile in (("lathe/base/status.h", True), ("lathe/spec/attention_spec.h", False)):
        words = shlex.split(base["command"])
        compiler = list(itertools.takewhile(lambda word: not word.startswith("-"), words))
        options = [word for word in words if word.startswith(("-I", "-std"))]
        command = [*compiler, *options, "-fsyntax-only", "-x", "c++", "-"]
        result = subprocess.run(
            command, input=f'#include "{header}"\n', cwd=base["directory"], capture_output=True, text=True, check=False
        )
        if (result.returncode == 0) != should_compile:
            failures.append(f"in csrc/base, {header} {'does not compile' if should_compile else 'compiles'}:\n{result.stderr}")

    for failure in failures:
        print("FAIL:", failure)
    print(f"{len(folders)} folders, {len(failures)} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
