"""What `lathe.torch` knows of elements and of the scales of those of 8 bits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from lathe.errors import SpecError

DTYPES = {torch.float16: "f16", torch.bfloat16: "bf16"}
_CODES = {torch.float8_e4m3fn: "e4m3", torch.float8_e5m2: "e5m2", torch.int8: "i8"}
_SCALES = ("scale", "token_scale", "channel_scale", "zero")


def refuse_gradients(**tensors: torch.Tensor | None) -> None:
    if torch.is_grad_enabled():
        for name, tensor in tensors.items():
            if tensor is not None and tensor.requires_grad:
                raise SpecError(
                    "requires a gradient; allowed: tensors without, as there is no backward", where=name, hint="torch.no_grad()"
                )


def element_of(name: str, tensor: torch.Tensor) -> str:
    """The format of cached keys or values."""
    if (found := DTYPES.get(tensor.dtype) or _CODES.get(tensor.dtype)) is not None:
        return found
    allowed = ", ".join(str(dtype) for dtype in (*DTYPES, *_CODES))
    raise SpecError(f"has elements of {tensor.dtype}; allowed: {allowed}", where=name)


def scale_arguments(name: str, scales: Mapping[str, Any] | None) -> tuple[float, Any, Any, Any]:
    """What codes stand for, as the operators take it."""
    given = dict(scales or {})
    if unknown := set(given) - set(_SCALES):
        raise SpecError(f"has {', '.join(sorted(unknown))}; allowed: {', '.join(_SCALES)}", where=name)
    return float(given.get("scale", 1.0)), given.get("token_scale"), given.get("channel_scale"), given.get("zero")


def scale_fields(prefix: str, scales: Mapping[str, Any] | None) -> dict[str, str]:
    """Which scales and zero-points of a paged spec these are: a table of channels has two dimensions, one of tokens three."""
    given = dict(scales or {})
    kinds = [name for name in ("token", "channel") if given.get(f"{name}_scale") is not None]
    fields = {f"{prefix}scale": "_".join(kinds)} if kinds else {}
    if (zero := given.get("zero")) is not None:
        fields[f"{prefix}zero"] = "channel" if zero.dim() == 2 else "token"
    return fields


def scale_tables(k_scales: Mapping[str, Any] | None, v_scales: Mapping[str, Any] | None) -> tuple[float, float, list[Any], str]:
    """Both sides' scales as the operators of attention take them."""
    factors, tables, names = [], [], []
    for side, given in (("k", k_scales), ("v", v_scales)):
        scale, *rest = scale_arguments(f"{side}_scales", given)
        factors.append(scale)
        for name, table in zip(_SCALES[1:], rest, strict=True):
            if table is not None:
                tables.append(table)
                names.append(f"{side}_{name}")
    return factors[0], factors[1], tables, ",".join(names)
