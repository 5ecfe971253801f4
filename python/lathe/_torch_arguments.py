"""What callers of `lathe.torch` pass, as the operators take it: tensors, lengths, scales of codes of 8 bits."""

from __future__ import annotations

import functools
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from lathe import _lathe
from lathe._arguments import read_params, read_positive
from lathe.errors import SpecError

DEVICES = ("cpu", "cuda")
DTYPES = {torch.float16: "f16", torch.bfloat16: "bf16"}
DTYPE_OF = {name: dtype for dtype, name in DTYPES.items()}
_CODES = {torch.float8_e4m3fn: "e4m3", torch.float8_e5m2: "e5m2", torch.int8: "i8"}
_SCALES = ("scale", "token_scale", "channel_scale", "zero")


def check_tensors(optional: Mapping[str, Any], /, **tensors: Any) -> None:
    """Refuses what is no tensor, and tensors that require a gradient; those of `optional` may be None."""
    has_gradients = torch.is_grad_enabled()
    for name, tensor in (*tensors.items(), *optional.items()):
        if tensor is None and name in optional:
            continue
        if not isinstance(tensor, torch.Tensor):
            raise SpecError(f"is {reprlib.repr(tensor)}; allowed: a torch.Tensor", where=name)
        if has_gradients and tensor.requires_grad:
            raise SpecError(
                "requires a gradient; allowed: tensors without, as there is no backward", where=name, hint="torch.no_grad()"
            )


def check_devices(like: torch.Tensor, as_what: str, /, **tensors: torch.Tensor | None) -> None:
    """Refuses tensors that are not where `like` is; others may be None."""
    for name, tensor in tensors.items():
        if isinstance(tensor, torch.Tensor) and tensor.device != like.device:
            raise SpecError(f"is on {tensor.device}; allowed: {like.device}, as {as_what}", where=name)


def wrong_device(**tensors: Any) -> SpecError:
    """Which tensor is on a device that runs nothing; what PyTorch itself says names the operator alone. Not raised."""
    for name, tensor in tensors.items():
        if isinstance(tensor, torch.Tensor) and (tensor.device.type not in DEVICES or tensor.layout != torch.strided):
            found = f"is on {tensor.device}" if tensor.layout == torch.strided else f"is {tensor.layout} on {tensor.device}"
            return SpecError(f"{found}; allowed: dense tensors on {' or '.join(DEVICES)}", where=name)
    return SpecError(f"are on devices without an executor; allowed: {' or '.join(DEVICES)}", where=", ".join(tensors))


def narrowed(name: str, value: torch.Tensor) -> torch.Tensor:
    """Whole numbers as i32. Those that do not fit are refused on a CPU; on a GPU nobody looks, as that would wait for it."""
    narrow = value.to(torch.int32)
    if value.dtype == torch.int32 or value.device.type != "cpu":
        return narrow
    wide = value.to(torch.int64)
    if torch.compiler.is_compiling():  # a graph cannot branch on numbers
        torch._assert_async((narrow == wide).all(), f"{name}: holds numbers that are not of 32 bits; allowed: numbers of 32 bits")
    elif not torch.equal(narrow.to(torch.int64), wide):
        raise SpecError(f"holds {int(wide.min())}..{int(wide.max())}; allowed: numbers of 32 bits", where=name)
    return narrow


def read_indices(name: str, value: torch.Tensor | Sequence[int] | None) -> torch.Tensor | None:
    """`value` as contiguous i32, without a change of any number that is on a CPU."""
    if value is None:
        return None
    try:
        tensor = value if isinstance(value, torch.Tensor) else torch.as_tensor(value, device="cpu")
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise SpecError(f"is {reprlib.repr(value)}; allowed: whole numbers of 32 bits", where=name) from error
    if tensor.numel() == 0 and not isinstance(value, torch.Tensor):  # an empty list
        tensor = tensor.to(torch.int32)
    if tensor.dtype not in (torch.int32, torch.int64):
        raise SpecError(f"has elements of {tensor.dtype}; allowed: whole numbers", where=name)
    return narrowed(name, tensor).contiguous()


def layout_index(spec: _lathe.AttentionSpec) -> str:
    """``"ragged"``, or the index of the layout's pages."""
    return "ragged" if spec.layout["kind"] == "ragged" else str(spec.layout["index"])


@functools.lru_cache(maxsize=256)
def _parsed_index(spec: str) -> str:
    return layout_index(_lathe.AttentionSpec.from_json(spec))


def _layout_index_of_text(spec: str) -> str:
    return _parsed_index(spec)  # graphs look into what lru_cache() wraps, but not into this


layout_index_of_text = torch.compiler.assume_constant_result(_layout_index_of_text)


def element_of(name: str, tensor: torch.Tensor) -> str:
    """The format of cached keys or values."""
    if (found := DTYPES.get(tensor.dtype) or _CODES.get(tensor.dtype)) is not None:
        return found
    allowed = ", ".join(str(dtype) for dtype in (*DTYPES, *_CODES))
    raise SpecError(f"has elements of {tensor.dtype}; allowed: {allowed}", where=name)


def scale_arguments(name: str, scales: Mapping[str, Any] | None) -> tuple[float, Any, Any, Any]:
    """What codes stand for, as the operators take it."""
    if scales is not None and not isinstance(scales, Mapping):
        raise SpecError(f"is {reprlib.repr(scales)}; allowed: a mapping with {', '.join(_SCALES)}", where=name)
    given = dict(scales or {})
    if unknown := set(given) - set(_SCALES):
        raise SpecError(f"has {', '.join(sorted(unknown))}; allowed: {', '.join(_SCALES)}", where=name)
    check_tensors({f"{name}.{table}": given.get(table) for table in _SCALES[1:]})
    scale = read_positive(f"{name}.scale", given.get("scale", 1.0))
    return scale, given.get("token_scale"), given.get("channel_scale"), given.get("zero")


def scale_fields(prefix: str, scales: Mapping[str, Any] | None) -> dict[str, str]:
    """Which scales and zero-points of a paged spec these are: a table of channels has two dimensions, one of tokens three."""
    scale_arguments(f"{prefix}_scales", scales)  # refuses what is none
    given = dict(scales or {})
    kinds = [name for name in ("token", "channel") if given.get(f"{name}_scale") is not None]
    fields = {f"{prefix}scale": "_".join(kinds)} if kinds else {}
    if (zero := given.get("zero")) is not None:
        fields[f"{prefix}zero"] = "channel" if zero.dim() == 2 else "token"
    return fields


def by_name(what: str, given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Values and their names; none where nothing is given."""
    if given is not None and not isinstance(given, Mapping):
        raise SpecError(f"is {reprlib.repr(given)}; allowed: a mapping of names", where=what)
    return dict(given or {})


def options_of(
    sm_scale: float,
    soft_cap: float,
    tensors: Mapping[str, torch.Tensor] | None,
    params: Mapping[str, float] | None,
    k_scales: Mapping[str, Any] | None,
    v_scales: Mapping[str, Any] | None,
) -> tuple[Any, ...]:
    """The last arguments of the operators, as many as are needed: each that is given costs a call its conversion."""
    if not (tensors or params or k_scales or v_scales):
        return (sm_scale, soft_cap) if sm_scale or soft_cap else ()
    given, numbers = by_name("tensors", tensors), read_params(params)
    check_tensors({}, **given)
    for side, scales in (("k_scales", k_scales), ("v_scales", v_scales)):
        scale, *tables = scale_arguments(side, scales)
        given |= {f"{side}.{name}": table for name, table in zip(_SCALES[1:], tables, strict=True) if table is not None}
        if scales:
            numbers[f"{side}.scale"] = scale
    return sm_scale, soft_cap, list(given.values()), list(numbers.values()), ",".join((*given, *numbers))
