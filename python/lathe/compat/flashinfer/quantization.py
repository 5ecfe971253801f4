"""Booleans as bits."""

from __future__ import annotations

import torch

from lathe.compat.flashinfer._arguments import check_choice, check_tensors, on_host
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
    """As `numpy.packbits` of one dimension.

    Parameters
    ----------
    x : Tensor, [n]
        0 is False, all else True.
    bitorder : {"big", "little"}
        Whether the first element is a byte's highest bit, or its lowest.

    Returns
    -------
    u8 Tensor, [(n + 7) // 8]

    Raises
    ------
    SpecError
        Other shapes, or an unknown `bitorder`.
    """
    check_tensors(x=x)
    if x.dim() != 1:
        raise SpecError(f"has the shape {list(x.shape)}; allowed: one dimension", where="x")
    bits = x.to(torch.bool)
    return _pack(torch.nn.functional.pad(bits, (0, -len(bits) % 8)), bitorder)


def segment_packbits(x: torch.Tensor, indptr: torch.Tensor, bitorder: str = "big") -> tuple[torch.Tensor, torch.Tensor]:
    """`packbits` of each ``x[indptr[i] : indptr[i + 1]]``. Waits for the device.

    Parameters
    ----------
    x : Tensor
        0 is False, all else True.
    indptr : whole numbers, [segments + 1]
    bitorder : {"big", "little"}
        Whether the first element is a byte's highest bit, or its lowest.

    Returns
    -------
    packed : u8 Tensor
        In a row, each segment from a byte on.
    indptr : i32 Tensor, [segments + 1]
        Where each begins, in bytes.

    Raises
    ------
    SpecError
        Offsets that fall, or that go beyond x.
    """
    check_tensors(x=x)
    old = on_host("indptr", indptr).long()
    if len(old) == 0 or int(old[0]) != 0 or bool((old.diff() < 0).any()) or int(old[-1]) > x.numel():
        raise SpecError(f"is {old.tolist()[:8]} for {x.numel()} elements; allowed: from 0 on, not descending", where="indptr")
    new = torch.zeros_like(old)
    new[1:] = ((old.diff() + 7) // 8).cumsum(0)
    segment = torch.repeat_interleave(torch.arange(len(old) - 1, device="cpu"), old.diff())
    place = (new[:-1] * 8 - old[:-1])[segment] + torch.arange(int(old[-1]), device="cpu")
    bits = torch.zeros(int(new[-1]) * 8, dtype=torch.bool, device=x.device)
    bits[place.to(x.device)] = x.reshape(-1)[: int(old[-1])].to(torch.bool)
    return _pack(bits, bitorder), new.to(device=indptr.device, dtype=torch.int32)
