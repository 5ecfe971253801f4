"""States of attention over parts of the keys, merged; `cascade` holds their names."""

from __future__ import annotations

import torch

from lathe.errors import SpecError


def _check_states(v: torch.Tensor, s: torch.Tensor, dims: int, where: str) -> None:
    if v.dim() != dims or tuple(s.shape) != tuple(v.shape[:-1]):
        raise SpecError(
            f"{list(v.shape)} and {list(s.shape)}; allowed: {dims} dimensions, and all but the last of them", where=where
        )


def merge_states(v: torch.Tensor, s: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Merges results v [rows, states, heads, dim] with log-sum-exps s [rows, states, heads], base 2, over the states.

    Computed in f32. Rows that see no key in any state are 0, with a log-sum-exp of -inf.
    """
    _check_states(v, s, 4, "shapes of v and s")
    s = s.float()
    most = s.amax(dim=1, keepdim=True) if s.shape[1] else s.new_full((s.shape[0], 1, s.shape[2]), -torch.inf)
    weight = torch.exp2(s - torch.where(most.isfinite(), most, 0.0))
    total = weight.sum(dim=1)
    merged = (v.float() * weight.unsqueeze(-1)).sum(dim=1) / torch.where(total > 0, total, 1.0).unsqueeze(-1)
    return merged.to(v.dtype), torch.log2(total) + torch.where(most.isfinite(), most, 0.0).squeeze(1)


def merge_state(v_a: torch.Tensor, s_a: torch.Tensor, v_b: torch.Tensor, s_b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Merges two states: results [rows, heads, dim], log-sum-exps [rows, heads], base 2."""
    _check_states(v_a, s_a, 3, "shapes of v_a and s_a")
    _check_states(v_b, s_b, 3, "shapes of v_b and s_b")
    if v_a.shape != v_b.shape or v_a.dtype != v_b.dtype:
        raise SpecError(f"is {v_b.dtype} {list(v_b.shape)}; allowed: {v_a.dtype} {list(v_a.shape)}, as v_a", where="v_b")
    return merge_states(torch.stack((v_a, v_b), dim=1), torch.stack((s_a.float(), s_b.float()), dim=1))


def merge_state_in_place(
    v: torch.Tensor, s: torch.Tensor, v_other: torch.Tensor, s_other: torch.Tensor, mask: torch.Tensor | None = None
) -> None:
    """Merges another state into v and s; with a mask [rows] of bool, into the rows where it is True."""
    merged_v, merged_s = merge_state(v, s, v_other, s_other)
    if mask is not None:
        if mask.dtype != torch.bool or tuple(mask.shape) != (v.shape[0],):
            raise SpecError(f"is {mask.dtype} {list(mask.shape)}; allowed: torch.bool [{v.shape[0]}]", where="mask")
        merged_v = torch.where(mask[:, None, None], merged_v, v)
        merged_s = torch.where(mask[:, None], merged_s, s)
    v.copy_(merged_v)
    s.copy_(merged_s)
