"""States of attention over parts of the keys, merged; `cascade` holds their names."""

from __future__ import annotations

import torch

from lathe._torch_arguments import check_tensors as refuse_gradients
from lathe.compat.flashinfer._arguments import check_tensors
from lathe.errors import SpecError


def _check_states(dims: int, where: str, **states: torch.Tensor) -> None:
    """A result and its log-sum-exps."""
    check_tensors(**states)
    refuse_gradients({}, **states)
    for name, x in states.items():
        if not x.is_floating_point():
            raise SpecError(f"has elements of {x.dtype}; allowed: floating-point numbers", where=name)
    v, s = states.values()
    if v.dim() != dims or tuple(s.shape) != tuple(v.shape[:-1]):
        raise SpecError(
            f"{list(v.shape)} and {list(s.shape)}; allowed: {dims} dimensions, and all but the last of them", where=where
        )


def merge_states(v: torch.Tensor, s: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Merges the states of rows, computed in f32, as FlashInfer composes attention (Ye et al., arXiv 2501.01005).

    Parameters
    ----------
    v : floating-point Tensor, [rows, states, heads, dim]
    s : floating-point Tensor, [rows, states, heads]
        Log-sum-exps, base 2.

    Returns
    -------
    v : Tensor, [rows, heads, dim], of v's type
    s : f32 Tensor, [rows, heads]
        Rows that see no key in any state are 0, with -inf.

    Raises
    ------
    SpecError
        Other shapes, types or devices.
    """
    _check_states(4, "shapes of v and s", v=v, s=s)
    s = s.float()
    most = s.amax(dim=1, keepdim=True) if s.shape[1] else s.new_full((s.shape[0], 1, s.shape[2]), -torch.inf)
    weight = torch.exp2(s - torch.where(most.isfinite(), most, 0.0))
    total = weight.sum(dim=1)
    merged = (v.float() * weight.unsqueeze(-1)).sum(dim=1) / torch.where(total > 0, total, 1.0).unsqueeze(-1)
    return merged.to(v.dtype), torch.log2(total) + torch.where(most.isfinite(), most, 0.0).squeeze(1)


def merge_state(v_a: torch.Tensor, s_a: torch.Tensor, v_b: torch.Tensor, s_b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """`merge_states` of two.

    Parameters
    ----------
    v_a, v_b : floating-point Tensor, [rows, heads, dim]
    s_a, s_b : floating-point Tensor, [rows, heads]
        Log-sum-exps, base 2.

    Returns
    -------
    v, s : Tensor
        As of `merge_states`.

    Raises
    ------
    SpecError
        Other shapes, types or devices.
    """
    _check_states(3, "shapes of v_a and s_a", v_a=v_a, s_a=s_a)
    _check_states(3, "shapes of v_b and s_b", v_b=v_b, s_b=s_b)
    check_tensors(v_a=v_a, v_b=v_b)
    if v_a.shape != v_b.shape or v_a.dtype != v_b.dtype:
        raise SpecError(f"is {v_b.dtype} {list(v_b.shape)}; allowed: {v_a.dtype} {list(v_a.shape)}, as v_a", where="v_b")
    return merge_states(torch.stack((v_a, v_b), dim=1), torch.stack((s_a.float(), s_b.float()), dim=1))


def merge_state_in_place(
    v: torch.Tensor, s: torch.Tensor, v_other: torch.Tensor, s_other: torch.Tensor, mask: torch.Tensor | None = None
) -> None:
    """Merges another state into v and s.

    Parameters
    ----------
    v, v_other : floating-point Tensor, [rows, heads, dim]
    s, s_other : floating-point Tensor, [rows, heads]
        Log-sum-exps, base 2.
    mask : bool Tensor, [rows], optional
        Where False, the row stays.

    Raises
    ------
    SpecError
        Other shapes, types or devices.
    """
    merged_v, merged_s = merge_state(v, s, v_other, s_other)
    if mask is not None:
        check_tensors(v.device, mask=mask)
        if mask.dtype != torch.bool or tuple(mask.shape) != (v.shape[0],):
            raise SpecError(f"is {mask.dtype} {list(mask.shape)}; allowed: torch.bool [{v.shape[0]}]", where="mask")
        merged_v = torch.where(mask[:, None, None], merged_v, v)
        merged_s = torch.where(mask[:, None], merged_s, s)
    v.copy_(merged_v)
    s.copy_(merged_s)
