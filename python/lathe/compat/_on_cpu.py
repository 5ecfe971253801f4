"""Programs that name "cuda" devices, on a machine without one: their tensors are made on the CPU."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from lathe.compat import _graphs_on_cpu
from lathe.compat.flashinfer import Unsupported

CAPABILITY = (9, 0)  # what a program is told that asks


def _is_cuda(value: Any) -> bool:
    if isinstance(value, torch.device):
        return bool(value.type == "cuda")
    return isinstance(value, str) and (value == "cuda" or value.startswith("cuda:"))


class OnCpu(TorchFunctionMode):  # type: ignore[misc]
    """Every function of PyTorch that is given a "cuda" device gets the CPU; so does a device given as a number."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        options = dict(kwargs or {})
        if func in (torch.Tensor.cuda, torch.Tensor.pin_memory):
            return args[0]
        if func is torch.Tensor.to and len(args) > 1 and isinstance(args[1], int) and not isinstance(args[1], bool):
            args = (args[0], "cpu", *args[2:])
        if _is_cuda(options.get("device")) or isinstance(options.get("device"), int):
            options["device"] = "cpu"
        if options.get("pin_memory"):
            options["pin_memory"] = False
        return func(*("cpu" if _is_cuda(value) else value for value in args), **options)


def _missing(name: str) -> Callable[..., Any]:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise Unsupported("is used; allowed: what runs without a GPU", where=name)

    return refuse


def redirect() -> None:
    """From now on, and for good: this process has no use for "cuda" but the CPU."""
    OnCpu().__enter__()
    generator = torch.Generator
    names: dict[str, Any] = {
        "current_device": lambda: 0,
        "device_count": lambda: 1,
        "empty_cache": lambda: None,
        "is_available": lambda: True,  # so that files do not pass over what runs here
        "get_device_capability": lambda device=None: CAPABILITY,
        "manual_seed": torch.manual_seed,
        "synchronize": lambda device=None: None,
        "CUDAGraph": _graphs_on_cpu.CUDAGraph,
        "graph": _graphs_on_cpu.graph,
        "Stream": _graphs_on_cpu.Stream,
        "current_stream": _graphs_on_cpu.Stream,
        "stream": lambda stream: contextlib.nullcontext(),
        **{name: _missing(f"torch.cuda.{name}") for name in ("Event", "get_device_properties")},
    }
    for name, value in names.items():
        setattr(torch.cuda, name, value)
    of_torch: dict[str, Any] = {"Generator": lambda device="cpu": generator("cpu"), "set_default_device": lambda device: None}
    for name, value in of_torch.items():
        setattr(torch, name, value)
