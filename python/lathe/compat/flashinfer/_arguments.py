"""What callers pass, checked and brought to one form; what Lathe does not serve is refused by name."""

from __future__ import annotations

import functools
import math
import reprlib
from collections.abc import Sequence
from typing import Any, TypeAlias

import torch

from lathe._arguments import read_integer, read_positive
from lathe._torch_arguments import narrowed
from lathe.errors import SpecError

DTypeLike: TypeAlias = "str | torch.dtype"
# [pages, 2, ...] holding keys and values, or one tensor of each.
PagedKv: TypeAlias = "torch.Tensor | tuple[torch.Tensor, torch.Tensor]"

LAYOUTS = ("NHD", "HND")
POSITIONS = ("NONE", "ROPE_LLAMA", "ALIBI")
FLOAT8 = (torch.float8_e4m3fn, torch.float8_e5m2)
DEVICES = ("cpu", "cuda")


class Unsupported(SpecError, NotImplementedError):
    """Something that FlashInfer takes and Lathe does not serve."""

    def __init__(self, message: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(message, where=where, hint=hint, code="unsupported")


def refuse_given(**arguments: Any) -> None:
    """Refuses the first argument that is not None."""
    for name, value in arguments.items():
        if value is not None:
            shown = f"a tensor {list(value.shape)}" if isinstance(value, torch.Tensor) else repr(value)
            raise Unsupported(f"is {shown}; allowed: None", where=name)


def check_choice(name: str, value: str, allowed: Sequence[str]) -> str:
    if value not in allowed:
        raise SpecError(f"is {value!r}; allowed: {', '.join(allowed)}", where=name)
    return value


def check_buffer(name: str, value: Any, why: str) -> torch.Tensor:
    if not isinstance(value, torch.Tensor):
        raise SpecError(f"is a {type(value).__name__}; allowed: a torch.Tensor, {why}", where=name)
    return value


def check_tensors(device: torch.device | None = None, /, **tensors: Any) -> None:
    """Refuses what is no tensor, devices that run nothing, and tensors that are not on `device`, or not where the first is."""
    others = "as the wrapper's workspace"
    for name, value in tensors.items():
        if not isinstance(value, torch.Tensor):
            raise SpecError(f"is {reprlib.repr(value)}; allowed: a torch.Tensor", where=name)
        if value.device.type not in DEVICES:
            raise SpecError(f"is on {value.device}; allowed: {', '.join(DEVICES)}", where=name)
        if device is None:
            device, others = value.device, f"as {name}"
        elif value.device != device:
            raise SpecError(f"is on {value.device}; allowed: {device}, {others}", where=name)


def check_sizes(**sizes: Any) -> None:
    for name, value in sizes.items():
        if read_integer(name, value) < 1:
            raise SpecError(f"is {value}; allowed: 1 or more", where=name)


def check_options(
    window_left: int, logits_soft_cap: float | None, sm_scale: float | None, rope_scale: float | None, rope_theta: float | None
) -> None:
    """Numbers of a call; what is below 0 is no window, and what is not above 0 no cap."""
    read_integer("window_left", window_left)
    number("logits_soft_cap", logits_soft_cap)
    for name, value in (("sm_scale", sm_scale), ("rope_scale", rope_scale), ("rope_theta", rope_theta)):
        read_positive(name, value)


def check_index_buffer(name: str, value: Any, why: str, device: torch.device) -> torch.Tensor:
    """A buffer of a captured graph."""
    buffer = check_buffer(name, value, why)
    check_like(name, buffer, (buffer.numel(),), torch.int32, device)
    return buffer


def check_like(name: str, value: torch.Tensor, shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> None:
    check_buffer(name, value, f"{dtype} {list(shape)} on {device}")
    found = f"{value.dtype} {list(value.shape)} on {value.device}"
    if tuple(value.shape) != tuple(shape) or value.dtype != dtype or value.device != device:
        raise SpecError(f"is {found}; allowed: {dtype} {list(shape)} on {device}", where=name)


def check_workspace(name: str, value: torch.Tensor) -> torch.Tensor:
    check_buffer(name, value, "on the device that runs")
    check_tensors(**{name: value})
    if value.numel() > 0 and value.data_ptr() % 16 != 0:
        raise SpecError(f"{name} must be 16-byte aligned; its address is {value.data_ptr() % 16} modulo 16")
    return value


def dtype_of(name: str, value: DTypeLike | None, preset: torch.dtype | None = None) -> torch.dtype:
    """A torch.dtype, or the name of one; `preset` for None."""
    if value is None and preset is not None:
        return preset
    found = getattr(torch, value, None) if isinstance(value, str) else value
    if not isinstance(found, torch.dtype):
        raise SpecError(f"is {value!r}; allowed: a torch.dtype, or the name of one", where=name)
    return found


def number(name: str, value: Any) -> float:
    """None is 0."""
    try:
        found = 0.0 if value is None else float(value)
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not math.isfinite(found):
        raise SpecError(f"is {reprlib.repr(value)}; allowed: a finite number", where=name)
    return found


def scalar(name: str, value: Any) -> float:
    """A factor; None is 1. A tensor of one element is read, which waits for its device."""
    if value is None:
        return 1.0
    if isinstance(value, torch.Tensor):
        check_tensors(**{name: value})
        if value.numel() != 1:
            raise Unsupported(f"has {value.numel()} elements; allowed: a number, or a tensor of one element", where=name)
        value = value.item()
    return number(name, value)


def check_whole(**tensors: Any) -> None:
    """Whole numbers in one dimension, on any device that runs something."""
    for name, value in tensors.items():
        check_tensors(**{name: value})
        if value.is_floating_point() or value.is_complex() or value.dtype == torch.bool:
            raise SpecError(f"has elements of {value.dtype}; allowed: whole numbers", where=name)
        if value.dim() != 1:
            raise SpecError(f"has the shape {list(value.shape)}; allowed: one dimension", where=name)


def on_host(name: str, value: torch.Tensor) -> torch.Tensor:
    """Whole numbers as contiguous i32 on the CPU, in memory of their own: callers may write to theirs before a run.

    Numbers on a GPU are copied first, which waits for it; numbers are looked at on the CPU alone.
    """
    check_whole(**{name: value})
    return narrowed(name, value.detach().to(device="cpu", copy=True)).contiguous()


def offsets_on_host(name: str, value: torch.Tensor) -> torch.Tensor:
    """Offsets of requests, as `on_host` gives them: from 0 on, never falling."""
    offsets = on_host(name, value)
    if len(offsets) == 0 or int(offsets[0]) != 0 or bool((offsets.diff() < 0).any()):
        raise SpecError(f"is {reprlib.repr(offsets.tolist())}; allowed: from 0 on, never falling", where=name)
    return offsets


def check_lens(name: str, value: torch.Tensor | None, lens: torch.Tensor) -> None:
    """Lengths that say again what other arguments say."""
    if value is None:
        return
    check_tensors(**{name: value})
    given = on_host(name, value.flatten())
    if not torch.equal(given, lens.int()):
        found, wanted = (reprlib.repr(x.tolist()) for x in (given, lens))
        raise SpecError(f"is {found}; allowed: {wanted}, the lengths of the other arrays", where=name)


def page_ids(name: str, value: torch.Tensor, kv_indptr: torch.Tensor) -> torch.Tensor:
    """Ids of pages as i32, where they are; at least as many as `kv_indptr`, which is on the host, ends with."""
    check_whole(**{name: value})
    if len(value) < int(kv_indptr[-1]):
        raise SpecError(f"has {len(value)} entries; allowed: at least {int(kv_indptr[-1])}, as the last offset says", where=name)
    return narrowed(name, value)


def unpack(paged_kv_cache: PagedKv, layout: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values, each [pages, page_size, heads, dim] (NHD) or [pages, heads, page_size, dim] (HND), of any strides."""
    if isinstance(paged_kv_cache, torch.Tensor):
        if paged_kv_cache.dim() not in (4, 5) or paged_kv_cache.shape[1] != 2:
            raise SpecError(
                f"has the shape {list(paged_kv_cache.shape)}; allowed: [pages, 2, ...], 5 dimensions or, for pages of one token, 4",
                where="paged_kv_cache",
            )
        parts: Sequence[torch.Tensor] = paged_kv_cache.unbind(dim=1)
    elif isinstance(paged_kv_cache, tuple | list) and len(paged_kv_cache) == 2:
        parts = paged_kv_cache
    else:
        raise SpecError(f"is a {type(paged_kv_cache).__name__}; allowed: a tensor, or a tuple of two", where="paged_kv_cache")
    check_tensors(**{f"paged_kv_cache: {name}": x for name, x in zip("kv", parts, strict=True)})
    k, v = (x.unsqueeze(1 if layout == "NHD" else 2) if x.dim() == 3 else x for x in parts)
    for name, x in (("k", k), ("v", v)):
        if x.dim() != 4:
            raise SpecError(f"has {x.dim()} dimensions; allowed: 4, or 3 for pages of one token", where=f"paged_kv_cache: {name}")
    return k, v


@functools.lru_cache(maxsize=64)
def alibi_slopes(heads: int, device: torch.device) -> torch.Tensor:
    """Slopes of ALiBi (Press et al., arXiv 2108.12409): powers of 2^(-8 / n), then those between."""
    n = 2 ** math.floor(math.log2(heads))
    slopes = [2.0 ** (-8.0 * (i + 1) / n) for i in range(n)]
    slopes += [2.0 ** (-4.0 * (2 * i + 1) / n) for i in range(heads - n)]
    return torch.tensor(slopes, dtype=torch.float32, device=device)
