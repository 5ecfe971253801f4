"""Booleans as bits."""

from __future__ import annotations

import torch

from lathe.compat.flashinfer._arguments import check_choice, on_host
from lathe.errors import SpecError

__all__ = ["packbits", "segment_packbits"]


def _pack(bits: torch.Tensor, bitorder: str) -> torch.Tensor:
    """Booleans, a multiple of 8, as bytes."""
    weights = [1, 2, 4, 8, 16, 32, 64, 128]
    if check_choice("bitorder", bitorder, ("big", "little")) == "big":
        weights.reverse()
    places = torch.tensor(weights, dtype=torch.uint8, device=bits.device)
    return (bits.reshape(-1, 8).to(torch.uint8) * places).sum(dim=1, dtype=torch.uint8)


def packbits(x: torch.Tensor, bitorder: str = "big") -> torch.Tensor:
    """As `numpy.packbits` of one dimension: u8 [(len(x) + 7) // 8]."""
    if x.dim() != 1:
        raise SpecError(f"has the shape {list(x.shape)}; allowed: one dimension", where="x")
    bits = x.to(torch.bool)
    return _pack(torch.nn.functional.pad(bits, (0, -len(bits) % 8)), bitorder)


def segment_packbits(x: torch.Tensor, indptr: torch.Tensor, bitorder: str = "big") -> tuple[torch.Tensor, torch.Tensor]:
    """`packbits` of each ``x[indptr[i] : indptr[i + 1]]``, in a row, and where each begins (i32). Waits for the device."""
    old = on_host("indptr", indptr).long()
    if len(old) == 0 or int(old[0]) != 0 or bool((old.diff() < 0).any()) or int(old[-1]) > x.numel():
        raise SpecError(f"is {old.tolist()[:8]} for {x.numel()} elements; allowed: from 0 on, not descending", where="indptr")
    new = torch.zeros_like(old)
    new[1:] = ((old.diff() + 7) // 8).cumsum(0)
    segment = torch.repeat_interleave(torch.arange(len(old) - 1), old.diff())
    place = (new[:-1] * 8 - old[:-1])[segment] + torch.arange(int(old[-1]))
    bits = torch.zeros(int(new[-1]) * 8, dtype=torch.bool, device=x.device)
    bits[place.to(x.device)] = x.reshape(-1)[: int(old[-1])].to(torch.bool)
    return _pack(bits, bitorder), new.to(device=indptr.device, dtype=torch.int32)
