"""``lathe compat --flashinfer DIR``: FlashInfer's own tests, from a checkout of it, on `lathe.compat.flashinfer`.

Each file runs in a process of its own, with a time limit. On a machine without a GPU its tensors are made on the CPU, and cases
that would take the host executor long are passed over.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lathe.errors import SpecError

__all__ = ["Outcome", "main", "run_file"]

# Files about what lathe.compat.flashinfer offers.
FILES = (
    *(f"tests/attention/test_{name}.py" for name in ("batch_decode_kernels", "batch_prefill_kernels", "batch_prefill")),
    *(f"tests/attention/test_{name}.py" for name in ("shared_prefix_kernels", "single_prefill", "page", "sliding_window")),
    *(f"tests/attention/test_{name}.py" for name in ("logits_cap", "alibi", "decode_prefill_lse", "tensor_cores_decode")),
    *(f"tests/attention/test_{name}.py" for name in ("non_contiguous_decode", "non_contiguous_prefill", "workspace_size")),
    *(f"tests/attention/test_{name}.py" for name in ("decode_fp8_calibration_scale", "fp8_prefill", "batch_invariant_fa2")),
    *(f"tests/attention/test_{name}.py" for name in ("hopper", "hopper_fp8_attention")),
    "tests/utils/test_quantization.py",
)
_KINDS = ("passed", "failed", "unsupported", "skipped")


@dataclass
class Outcome:
    """What became of one file.

    Attributes
    ----------
    counts : Counter of str
        Cases ``passed``, ``failed``, ``unsupported`` (Lathe says that it does not serve something), ``skipped`` (by the file
        itself), ``large`` (passed over by size), ``unreached`` (when the time was up).
    lines : list of (str, str, str)
        Case, outcome, and why, of cases that neither passed nor were skipped by their file.
    """

    counts: Counter[str] = field(default_factory=Counter)
    lines: list[tuple[str, str, str]] = field(default_factory=list)


def run_file(root: Path, file: str, *, limit: int, seed: int, size: float, seconds: float) -> Outcome:
    """Runs one file of the checkout at `root`; `limit` and `size` 0 mean none."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.jsonl"
        report.touch()
        empty = Path(folder) / "pytest.ini"
        empty.write_text("[pytest]\n")
        options = json.dumps({"report": str(report), "limit": limit, "seed": seed, "size": size})
        command = [
            *(sys.executable, "-B", "-m", "pytest", "-q", "-p", "lathe.compat._peer_plugin", "--noconftest", "-c", str(empty)),
            *("--rootdir", str(root), "-p", "no:cacheprovider", "--import-mode=importlib", str(root / file)),
        ]
        # The checkout's helpers are reached as tests.test_helpers; its package is not, not even by processes that tests start.
        (Path(folder) / "tests").symlink_to(root / "tests")
        path = os.pathsep.join([*(p for p in sys.path if p), folder])
        environment = {**os.environ, "PYTHONPATH": path, "LATHE_COMPAT_OPTIONS": options}
        log, late = Path(folder) / "log", False
        with open(log, "w", encoding="utf-8") as out:
            try:
                subprocess.run(command, env=environment, stdout=out, stderr=out, timeout=seconds, check=False, cwd=folder)
            except subprocess.TimeoutExpired:
                late = True
        return _read(report.read_text(encoding="utf-8"), log.read_text(encoding="utf-8", errors="replace"), file, late)


def _read(report: str, log: str, file: str, late: bool) -> Outcome:
    outcome = Outcome()
    drawn = 0
    for line in map(json.loads, report.splitlines()):
        if line["kind"] == "collected":
            drawn = line["drawn"]
            outcome.counts["large"] = line["large"]
            continue
        outcome.counts[line["outcome"]] += 1
        if line["outcome"] not in ("passed", "skipped") or "ModuleNotFoundError" in line["why"]:
            outcome.lines.append((line["case"], line["outcome"], line["why"]))
    if not report and not late:
        outcome.counts["failed"] += 1
        outcome.lines.append((file, "failed", (log.strip().splitlines() or ["nothing was collected"])[-1]))
    # A file whose cases were not even collected in time counts as one.
    outcome.counts["unreached"] = max(0 if report else int(late), drawn - sum(outcome.counts[kind] for kind in _KINDS))
    return outcome


def _arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="lathe compat", description=__doc__)
    parser.add_argument("--flashinfer", required=True, metavar="DIR", help="a checkout of FlashInfer")
    parser.add_argument("--limit", type=int, default=0, metavar="N", help="cases of each file, drawn by the seed (all)")
    parser.add_argument("--seed", type=int, default=1, help="of the draw (1)")
    parser.add_argument("--seconds", type=float, default=600, help="for each file (600)")
    parser.add_argument(
        "--size",
        type=float,
        default=-1,
        help="largest product of a case's lengths, heads and dims (1e8 without a GPU, else any: 0)",
    )
    parser.add_argument("--show", action="store_true", help="also each case that failed or is unsupported, and why")
    parser.add_argument("files", nargs="*", help="test files below DIR (those about what lathe.compat.flashinfer offers)")
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> int:
    """Prints a table of outcomes; 1 when a case failed."""
    arguments = _arguments(given)
    root = Path(arguments.flashinfer).resolve()
    files = arguments.files or [file for file in FILES if (root / file).is_file()]
    missing = [file for file in files if not (root / file).is_file()]
    if missing or not files:
        raise SpecError(f"has no {', '.join(missing) or 'tests'}; allowed: a checkout of FlashInfer", where=str(root))
    size = arguments.size
    if size < 0:
        import torch

        size = 0 if torch.cuda.is_available() else 1e8
    columns = (*_KINDS, "large", "unreached")
    width = max(map(len, files))
    print(f"seed {arguments.seed}")
    print(" " * width + "".join(f"{name:>13}" for name in columns))
    total: Counter[str] = Counter()
    for file in files:
        outcome = run_file(root, file, limit=arguments.limit, seed=arguments.seed, size=size, seconds=arguments.seconds)
        total += outcome.counts
        print(f"{file:<{width}}" + "".join(f"{outcome.counts[name]:>13}" for name in columns), flush=True)
        for case, kind, why in outcome.lines if arguments.show else []:
            print(f"    {kind}: {case.rsplit('/', 1)[-1]}: {why}")
    print(f"{'all':<{width}}" + "".join(f"{total[name]:>13}" for name in columns))
    return 1 if total["failed"] else 0
