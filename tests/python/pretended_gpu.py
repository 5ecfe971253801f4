"""A GPU that is not there: tensors that say they are on "cuda:0", lie in memory of the CPU, and refuse what those of a GPU would.

For suites that are written for a GPU, on machines without one. A mode sees every call of PyTorch, and of Lathe's operators: calls
that mix devices are refused, as PyTorch and the operators refuse them; so is numpy's view of such a tensor, and, while a graph is
captured, what waits for the device or copies from the host. What runs, runs on the host executor; captures record and replay
calls (`lathe.compat._graphs_on_cpu`). The operators' own code for a GPU, kernels, streams and memory are not tried.
"""

from __future__ import annotations

import contextlib

import torch
from lathe.compat import _graphs_on_cpu
from torch.overrides import TorchFunctionMode
from torch.utils._device import _device_constructors
from torch.utils._pytree import tree_leaves, tree_map_only

CPU, GPU = torch.device("cpu"), torch.device("cuda:0")
_Tensor = torch.Tensor
_CONSTRUCTORS = _device_constructors()
# Copies go between devices, and indices may be on the CPU.
_MIXING = (_Tensor.copy_, _Tensor.__getitem__, _Tensor.__setitem__, _Tensor.to)
_WAITING = (_Tensor.item, _Tensor.tolist, _Tensor.__bool__, _Tensor.__int__, _Tensor.__float__, _Tensor.__index__, torch.equal)
# What operators of Lathe read on the host, where they do.
_PLANNERS = ("lathe::attention", "lathe::attention_into", "lathe::plan")
_LENGTHS = ("qo_indptr", "kv_indptr", "last_page_len", "seq_lens")


class OfGpu(torch.Tensor):
    """A tensor of the pretended GPU; to C++ it is one of the CPU."""

    def __deepcopy__(self, memo):
        copy = self.detach().clone().requires_grad_(self.requires_grad)
        copy.__dict__.update(self.__dict__)  # whether it is a parameter
        return memo.setdefault(id(self), copy)


def _place_of(x):
    return GPU if isinstance(x, OfGpu) or x.layout != torch.strided else x.device  # there are no other subclasses


def _placed(x, place):
    """A result where it belongs."""
    if place == GPU and x.layout == torch.strided:
        return x if isinstance(x, OfGpu) else x.as_subclass(OfGpu)
    return x.as_subclass(torch.Tensor) if isinstance(x, OfGpu) else x


def _asked_for(func, args, kwargs):
    """The device that a call names, or None."""
    if func in (_Tensor.cuda, _Tensor.cpu):
        return GPU if func is _Tensor.cuda else CPU
    named = kwargs.get("device")
    if func is _Tensor.to and len(args) > 1 and isinstance(args[1], str | torch.device | torch.Tensor):
        named = args[1]
    if isinstance(named, torch.Tensor):
        return _place_of(named)
    if named is None:
        return GPU if func in _CONSTRUCTORS else None
    named = torch.device(named)
    return GPU if named.type == GPU.type else named


def _check_operator(schema, args, kwargs):
    """As csrc/bindings/torch does: lengths of a plan are on the CPU, all else is where the first tensor is."""
    if any(isinstance(x, torch.Tensor) and x.is_meta for x in tree_leaves((args, kwargs))):
        return  # which no device runs
    given = {a.name: value for a, value in zip(schema.arguments, args, strict=False)} | kwargs
    place = None
    for name, value in given.items():
        for x in tree_leaves(value):
            if not isinstance(x, torch.Tensor):
                continue
            if schema.name in _PLANNERS and (name in _LENGTHS or (schema.name == "lathe::plan" and name == "tensors")):
                if _place_of(x) != CPU:
                    raise RuntimeError(f"lathe: {name}: is on {_place_of(x)}; allowed: the CPU, where plans are made")
            elif _place_of(x) != (place := place or _place_of(x)):
                raise RuntimeError(f"lathe: {name}: is on {_place_of(x)}; allowed: {place}, as the other tensors")


class PretendedGpu(TorchFunctionMode):
    """While it is entered there is a GPU, and tensors are made on it unless a call says where."""

    captures = False

    def __torch_function__(self, func, types, args=(), kwargs=None):
        with torch._C.DisableTorchFunction():
            return self._call(func, args, dict(kwargs or {}))

    def _call(self, func, args, kwargs):
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        places = {_place_of(x) for x in tensors}
        if func == _Tensor.device.__get__:
            return _place_of(args[0])
        if func == _Tensor.is_cuda.__get__:
            return isinstance(args[0], OfGpu)
        if func == _Tensor.is_cpu.__get__:
            return _place_of(args[0]) == CPU
        if func is torch._has_compatible_shallow_copy_type and len(places) == 2:
            return False  # so that a module that is moved has new parameters
        if func in (_Tensor.numpy, _Tensor.__array__) and GPU in places:
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        schema = getattr(getattr(func, "default", func), "_schema", None)
        if schema is not None and schema.name.startswith("lathe::"):
            _check_operator(schema, args, kwargs)
        elif func not in _MIXING and {CPU, GPU} <= {_place_of(x) for x in tensors if x.dim() > 0}:
            raise RuntimeError(f"{func}: expected all tensors to be on the same device, but found cpu and cuda:0")
        asked = _asked_for(func, args, kwargs)
        place = asked or (GPU if GPU in places else CPU)
        if schema is not None and schema.name == "lathe::sizes":
            place = CPU
        if self.captures and (
            (func in _WAITING and GPU in places)
            or (
                asked is not None
                and (places or {CPU}) != {asked}
                and func not in (torch.empty, torch.zeros, torch.ones, torch.full)
            )
            or (func is _Tensor.copy_ and len(places) == 2)
        ):
            raise RuntimeError(f"{func}: operation not permitted when stream is capturing")
        generator = kwargs.get("generator")
        if place == GPU and generator is not None and func in _CONSTRUCTORS:
            raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
        if asked is not None and place.type != "meta":
            func, args, kwargs = _without_device(func, args, kwargs)
        if func is torch.histc and not args[0].is_floating_point():  # which a GPU has, and a CPU has not
            result = func(args[0].float(), *args[1:], **kwargs).to(args[0].dtype)
        else:
            result = func(*args, **kwargs)
        if place.type == "meta":
            return result
        if asked is not None and tensors and _place_of(tensors[0]) != place and isinstance(result, torch.Tensor):
            result = result.as_subclass(torch.Tensor)
            result = result.clone() if result.data_ptr() == tensors[0].data_ptr() else result  # a copy, as it would be
        if func is _Tensor.__iter__:
            return iter([_placed(x, place) for x in result])
        return tree_map_only(torch.Tensor, lambda x: x if x.is_meta else _placed(x, place), result)


def _without_device(func, args, kwargs):
    """A call with the CPU in place of the GPU."""
    if func is _Tensor.cuda:
        return _Tensor.to, (args[0], CPU), {}
    if func is _Tensor.to and len(args) > 1 and isinstance(args[1], str | torch.device):
        args = (args[0], CPU, *args[2:])
    return func, args, kwargs | ({"device": CPU} if "device" in kwargs or func in _CONSTRUCTORS else {})


def enter():
    """From now on, and for good."""
    mode = PretendedGpu()
    mode.__enter__()

    class Graph(_graphs_on_cpu.graph):
        def __enter__(self):
            mode.captures = True
            return super().__enter__()

        def __exit__(self, *error):
            mode.captures = False
            return super().__exit__(*error)

    names = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "get_device_capability": lambda device=None: (0, 0),  # none of a GPU's own products, which a CPU has not
        "synchronize": lambda device=None: None,
        "CUDAGraph": _graphs_on_cpu.CUDAGraph,
        "graph": Graph,
        "Stream": _graphs_on_cpu.Stream,
        "current_stream": _graphs_on_cpu.Stream,
        "stream": lambda stream: contextlib.nullcontext(),
        "is_current_stream_capturing": lambda: mode.captures,
    }
    for name, value in names.items():
        setattr(torch.cuda, name, value)
