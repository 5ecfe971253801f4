"""Kernels ahead of time: nothing compiles while requests wait."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from lathe import _engine, _lathe
from lathe.errors import Error, SpecError

__all__ = ["WarmupReport", "warmup"]

_MOST_JOBS = 64
# (kernels done, kernels in all, what the last one was and how it went)
Progress = Callable[[int, int, str], None]


@dataclass
class WarmupReport:
    """What `warmup` did.

    Attributes
    ----------
    compiled, found : int
        Kernels that were compiled, and that were there.
    failed : list of (str, lathe.Error)
        Kernels that could not be had, and why.
    """

    compiled: int = 0
    found: int = 0
    failed: list[tuple[str, Error]] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.compiled} compiled, {self.found} there already, {len(self.failed)} failed"


def _show(done: int, total: int, text: str) -> None:
    end = "\n" if done == total else ""
    print(f"\r\x1b[K[{done}/{total}] {text}", end=end, file=sys.stderr, flush=True)


def warmup(
    specs: Iterable[_lathe.AttentionSpec],
    *,
    archs: Sequence[str] | None = None,
    jobs: int | None = None,
    progress: Progress | bool | None = None,
) -> WarmupReport:
    """Compiles every kernel that `specs` stand for, unless memory or the cache has it. No GPU is needed.

    Parameters
    ----------
    specs : iterable of AttentionSpec
        Equal kernels are compiled once.
    archs : sequence of str, optional
        ``"host"``, ``"sm_80"``, ``"sm_90a"``, ...: each spec for each of them, in place of its own arch. With a GPU arch the
        kernel that plans on the device is compiled too.
    jobs : int, optional
        Compiles at a time; the number of cores when left out.
    progress : bool or callable, optional
        Called as ``progress(done, total, text)`` after each kernel, from any thread, one at a time. True prints ``[N/M]`` to
        standard error, False nothing; left out, it prints where that is a terminal.

    Returns
    -------
    WarmupReport
        Kernels that fail are told there; nothing is raised for them.

    Raises
    ------
    SpecError
        A spec or another argument is refused; nothing was compiled then.
    """
    kernels: dict[bytes, tuple[str, _lathe.AttentionSpec | str]] = {}
    if not isinstance(specs, Iterable):
        raise SpecError(f"is {specs!r}; allowed: several lathe.AttentionSpec", where="specs")
    for spec in specs:
        if not isinstance(spec, _lathe.AttentionSpec):
            raise SpecError(f"holds a {type(spec).__name__}; allowed: lathe.AttentionSpec", where="specs")
        for arch in archs if archs is not None else [spec.arch]:
            wanted = spec.replace(arch=arch)
            kernels.setdefault(wanted.canonical_bytes(), (str(wanted), wanted))
            if arch != "host":
                kernels.setdefault(arch.encode(), (f"planning on the device, {arch}", arch))
    if jobs is None:
        jobs = os.cpu_count() or 1
    if isinstance(jobs, bool) or not isinstance(jobs, int) or not 1 <= jobs <= _MOST_JOBS:
        raise SpecError(f"is {jobs!r}; allowed: 1..{_MOST_JOBS}", where="jobs")
    tell: Progress | None = None
    if not (progress is None or isinstance(progress, bool) or callable(progress)):
        raise SpecError(f"is {progress!r}; allowed: None, True, False, or what is called", where="progress")
    if callable(progress):
        tell = progress
    elif progress or (progress is None and sys.stderr.isatty()):
        tell = _show

    report = WarmupReport()
    lock = threading.Lock()
    engine = _engine.engine()

    def build(item: tuple[str, _lathe.AttentionSpec | str]) -> None:
        name, wanted = item
        try:
            facts = engine.build_planner(wanted) if isinstance(wanted, str) else engine.build(wanted)
            failure = None
        except Error as error:
            failure = error
        with lock:
            if failure is not None:
                report.failed.append((name, failure))
                how = "failed"
            elif facts["origin"] == "compiled":
                report.compiled += 1
                how = f"{facts['compile_ms']:.0f} ms"
            else:
                report.found += 1
                how = "there already"
            if tell is not None:
                tell(report.compiled + report.found + len(report.failed), len(kernels), f"{name}: {how}")

    with ThreadPoolExecutor(max_workers=jobs) as pool:
        for _ in pool.map(build, list(kernels.values())):
            pass
    return report
