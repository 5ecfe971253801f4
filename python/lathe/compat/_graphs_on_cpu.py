"""CUDA graphs, without CUDA: a capture records the operators that are called, and a replay calls them again on the same memory.

What a real graph would not see is not seen here either: anything that Python decided while the graph was captured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# What they give is memory without contents, which a graph keeps.
_FACTORIES = ("aten::empty", "aten::new_empty", "aten::empty_like", "aten::empty_strided")


class CUDAGraph:
    """Takes the place of `torch.cuda.CUDAGraph`."""

    def __init__(self, keep_graph: bool = False) -> None:
        self._calls: list[tuple[Callable[..., Any], tuple[Any, ...], Mapping[str, Any], list[Any]]] = []

    def record(self, call: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], results: Any) -> None:
        self._calls.append((call, args, kwargs, tree_leaves(results)))

    def replay(self) -> None:
        for call, args, kwargs, kept in self._calls:
            for old, new in zip(kept, tree_leaves(call(*args, **kwargs)), strict=True):
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)

    def reset(self) -> None:
        self._calls.clear()


class graph(TorchDispatchMode):  # type: ignore[misc] # noqa: N801
    """Takes the place of `torch.cuda.graph`."""

    def __init__(self, cuda_graph: CUDAGraph, *options: Any, **named: Any) -> None:
        super().__init__()
        self._graph = cuda_graph

    def __torch_dispatch__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        results = func(*args, **(kwargs or {}))
        if func._schema.name not in _FACTORIES:
            self._graph.record(func, args, kwargs or {}, results)
        return results


class Stream:
    """Takes the place of `torch.cuda.Stream`: there is one order only."""

    def __init__(self, *options: Any, **named: Any) -> None:
        pass

    def wait_stream(self, other: Any) -> None:
        pass

    def synchronize(self) -> None:
        pass
