"""A plugin of pytest that runs FlashInfer's own test files on `lathe.compat.flashinfer`; `lathe.compat.peer_tests` starts it.

``import flashinfer`` means Lathe's module. Submodules that Lathe has not are stand-ins: a name in them can be imported, and refuses
when it is called; a few that tests ask about the machine answer. Each case's outcome is one line of JSON in a report.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import json
import math
import os
import random
import sys
import types
from collections.abc import Generator, Sequence
from typing import Any

import pytest
import torch

import lathe.compat.flashinfer
from lathe.compat import _on_cpu
from lathe.compat.flashinfer import Unsupported

OPTIONS = "LATHE_COMPAT_OPTIONS"  # the environment variable that holds options as JSON: report, limit, seed, size
# Parameters of cases whose product says how much there is to compute; a sequence is rows and keys alike.
_SIZES = ("batch_size", "kv_len", "qo_len", "q_len", "shared_kv_len", "num_qo_heads", "num_heads", "head_dim", "head_dim_qk")
_SQUARES = ("seq_len",)


class Absent:
    """A name that Lathe does not have."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Absent:
        if name.startswith("__"):
            raise AttributeError(name)
        return Absent(f"{self._name}.{name}")

    def __or__(self, other: Any) -> Absent:  # in annotations
        return self

    __ror__ = __or__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise Unsupported("is called; allowed: what lathe.compat.flashinfer has", where=self._name)


def _capability(device: Any = None) -> tuple[int, int]:
    capability: tuple[int, int] = torch.cuda.get_device_capability(device)
    return capability


# What tests ask about the machine: nothing must be compiled ahead, and no case needs instructions of a GPU newer than Hopper.
_ANSWERS: dict[str, Any] = {
    "flashinfer.utils.get_compute_capability": _capability,
    "flashinfer.utils.has_flashinfer_jit_cache": lambda: True,
    "flashinfer.utils.is_sm90a_supported": lambda device=None: _capability(device)[0] == 9,
    **{f"flashinfer.utils.is_sm{arch}_supported": lambda device=None: False for arch in ("100a", "100f", "110a", "12x")},
}


class StandIns(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Submodules of flashinfer that Lathe does not have."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if not name.startswith("flashinfer."):
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        module = types.ModuleType(spec.name)

        def of(name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(name)
            full = f"{spec.name}.{name}"
            return _ANSWERS.get(full, Absent(full))

        module.__getattr__ = of  # type: ignore[method-assign]
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        pass


def _options() -> dict[str, Any]:
    options: dict[str, Any] = json.loads(os.environ[OPTIONS])
    return options


def _tell(**line: Any) -> None:
    with open(_options()["report"], "a", encoding="utf-8") as report:
        report.write(json.dumps(line) + "\n")


def pytest_configure(config: pytest.Config) -> None:
    lathe.compat.flashinfer.install()
    for name, module in list(sys.modules.items()):
        if name.startswith("flashinfer."):
            module.__path__ = []  # so that it is asked for submodules
    sys.meta_path.append(StandIns())
    if not torch.cuda.is_available():
        _on_cpu.redirect()


def _size(item: pytest.Item) -> float:
    params = getattr(getattr(item, "callspec", None), "params", {})
    lengths = [float(params[name]) for name in (*_SIZES, *_SQUARES, *_SQUARES) if isinstance(params.get(name), int)]
    return math.prod(lengths)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    options = _options()
    every = len(items)
    small = [item for item in items if not options["size"] or _size(item) <= options["size"]]
    drawn = small
    if options["limit"] and len(small) > options["limit"]:
        places = sorted(random.Random(options["seed"]).sample(range(len(small)), options["limit"]))
        drawn = [small[i] for i in places]
    items[:] = drawn
    _tell(kind="collected", every=every, large=every - len(small), drawn=len(drawn))


def _is_unsupported(error: BaseException | None) -> bool:
    """Whether Lathe says, itself, that it does not serve something."""
    if isinstance(error, Unsupported) or getattr(error, "code", "") == "unsupported":
        return True
    if isinstance(error, AttributeError | ImportError) and "lathe.compat.flashinfer" in str(error):
        return True
    if "No module named 'flashinfer'" in str(error):  # in a process that the test started
        return True
    return isinstance(error, RuntimeError) and "lathe: unsupported" in str(error)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    report = yield
    if call.when == "call" or report.outcome != "passed":
        error = call.excinfo.value if call.excinfo is not None else None
        outcome = "unsupported" if report.failed and _is_unsupported(error) else report.outcome
        why = "" if error is None else f"{type(error).__name__}: {error}"
        _tell(kind="case", case=item.nodeid, outcome=outcome, why="; ".join(why.split("\n"))[:300])
    return report


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.failed:
        text = str(report.longrepr).strip().splitlines()[-1]
        outcome = "unsupported" if "lathe.compat.flashinfer" in text or "Unsupported" in text else "failed"
        if "ModuleNotFoundError" in text and outcome == "failed":
            outcome = "skipped"  # by the file: it needs a package that is not here
        _tell(kind="case", case=report.nodeid, outcome=outcome, why=text[:300])
