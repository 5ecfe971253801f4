"""Lathe: attention kernels made to measure, compiled at run time, scheduled, checked.

The start is `attention`, one call for a batch; servers prepare an `Attention` once and plan each step. `AttentionSpec` says what a
kernel is made for, `lathe.expr` writes variants of it as Python functions.
"""

from __future__ import annotations

import json as _json
from collections.abc import Mapping as _Mapping
from typing import Any as _Any

from lathe import cache, cli, errors, expr, spec
from lathe._attention import attention
from lathe._engine import Engine
from lathe._engine import engine as _process_engine
from lathe._kernel import Attention, Plan
from lathe._lathe import AttentionSpec, Device, SparseLayout, __version__, cuda_device, host_device
from lathe._layouts import block_sparse, gather
from lathe._warmup import WarmupReport, warmup
from lathe.errors import CompileError, Error, LaunchError, SpecError, TraceError, UnavailableError

__all__ = [
    "Attention",
    "AttentionSpec",
    "CompileError",
    "Device",
    "Engine",
    "Error",
    "LaunchError",
    "Plan",
    "SparseLayout",
    "SpecError",
    "TraceError",
    "UnavailableError",
    "WarmupReport",
    "__version__",
    "attention",
    "block_sparse",
    "cache",
    "cli",
    "cuda_device",
    "errors",
    "explain",
    "expr",
    "gather",
    "host_device",
    "spec",
    "stats",
    "warmup",
]


def stats() -> dict[str, _Any]:
    """Counters of this process's engine.

    Returns
    -------
    dict
        ``memory_hits``, ``disk_hits``, ``misses``, ``compiles``, ``failures``, ``compile_ms`` (summed), and ``cache``: ``hits``,
        ``misses``, ``stores``, ``rejected``, ``errors``, ``bytes_read``, ``bytes_written``, ...
    """
    return _process_engine().stats()


def explain(spec: AttentionSpec, batch: _Mapping[str, _Any] | None = None) -> str:
    """What is chosen for a spec, and for a batch, and why: fields, tile classes, splits, the kernel, the schedule.

    Parameters
    ----------
    spec : AttentionSpec
    batch : mapping, optional
        ``{"num_kv_heads": 8, "qo_lens": [1, 128], "kv_lens": [300, 512]}``, and ``"window"`` where the mask has one.

    Returns
    -------
    str
        Text for people, of several lines.

    Raises
    ------
    SpecError
        The spec or the batch is refused.
    """
    if not isinstance(spec, AttentionSpec):
        raise SpecError(f"is a {type(spec).__name__}; allowed: a lathe.AttentionSpec", where="spec")
    arguments = ["explain", "--spec", spec.to_json()]
    if batch is not None:
        try:
            arguments += ["--batch", _json.dumps(dict(batch))]
        except (TypeError, ValueError) as error:
            raise SpecError(f"is {batch!r}; allowed: whole numbers and lists of them", where="batch") from error
    return cli.run(arguments)
