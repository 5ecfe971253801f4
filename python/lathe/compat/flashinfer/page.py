"""Pages of a cache: lengths, places of new tokens, and storing them."""

from __future__ import annotations

import torch

import lathe.torch as lathe_torch
from lathe.compat.flashinfer._arguments import LAYOUTS, PagedKv, check_choice, check_like, unpack
from lathe.errors import SpecError

__all__ = ["append_paged_kv_cache", "get_batch_indices_positions", "get_seq_lens"]


def get_seq_lens(kv_indptr: torch.Tensor, kv_last_page_len: torch.Tensor, page_size: int) -> torch.Tensor:
    """Tokens of each request: those of its full pages, and `kv_last_page_len`."""
    return (kv_indptr.diff() - 1).clamp(min=0) * page_size + kv_last_page_len


def get_batch_indices_positions(
    append_indptr: torch.Tensor,
    seq_lens: torch.Tensor,
    nnz: int,
    batch_indices: torch.Tensor | None = None,
    positions: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Request and position of each appended token, i32 [nnz]; `seq_lens` count them already.

    Tokens behind ``append_indptr[-1]`` have the request -1. Waits for nothing.
    """
    device = append_indptr.device
    out = []
    for name, given in (("batch_indices", batch_indices), ("positions", positions)):
        if given is not None:
            check_like(name, given, (nnz,), torch.int32, device)
        out.append(torch.empty(nnz, dtype=torch.int32, device=device) if given is None else given)
    token = torch.arange(nnz, dtype=append_indptr.dtype, device=device)
    request = torch.searchsorted(append_indptr, token, right=True) - 1
    inside = token < append_indptr[-1]
    known = request.clamp(0, max(len(append_indptr) - 2, 0))
    out[0].copy_(torch.where(inside, request, -1))
    if len(append_indptr) > 1:
        out[1].copy_(torch.where(inside, token + seq_lens[known] - append_indptr[known + 1], 0))
    else:
        out[1].zero_()
    return out[0], out[1]


def append_paged_kv_cache(
    append_key: torch.Tensor,
    append_value: torch.Tensor,
    batch_indices: torch.Tensor,
    positions: torch.Tensor,
    paged_kv_cache: PagedKv,
    kv_indices: torch.Tensor,
    kv_indptr: torch.Tensor,
    kv_last_page_len: torch.Tensor,
    kv_layout: str = "NHD",
) -> None:
    """Stores keys and values [tokens, kv_heads, dim] at their positions; tokens of the request -1 are passed over."""
    caches = unpack(paged_kv_cache, check_choice("kv_layout", kv_layout, LAYOUTS))
    pages = [cache if kv_layout == "NHD" else cache.transpose(1, 2) for cache in caches]
    for name, new, tokens in zip(("append_key", "append_value"), (append_key, append_value), pages, strict=True):
        if new.dtype != tokens.dtype:
            raise SpecError(f"has elements of {new.dtype}; allowed: {tokens.dtype}, as the cache", where=name)
        if new.dim() != 3 or tuple(new.shape[1:]) != tuple(tokens.shape[2:]):
            raise SpecError(f"has the shape {list(new.shape)}; allowed: [tokens, {tokens.shape[2]}, {tokens.shape[3]}]", where=name)
    if append_key.element_size() == 1:
        return _store(append_key, append_value, batch_indices, positions, pages[0], pages[1], kv_indices, kv_indptr)
    where = {"batch_indices": batch_indices, "positions": positions, "kv_indptr": kv_indptr, "kv_indices": kv_indices}
    lathe_torch.append(append_key, append_value, caches[0], caches[1], order=kv_layout, **where)


def _store(
    keys: torch.Tensor,
    values: torch.Tensor,
    batch_indices: torch.Tensor,
    positions: torch.Tensor,
    k_pages: torch.Tensor,
    v_pages: torch.Tensor,
    kv_indices: torch.Tensor,
    kv_indptr: torch.Tensor,
) -> None:
    """Stores codes of 8 bits as they are, in pages [pages, page_size, heads, dim]. Waits for the device."""
    page_size = k_pages.shape[1]
    stored = (batch_indices >= 0).nonzero().squeeze(1)
    request, position = batch_indices[stored].long(), positions[stored].long()
    page = kv_indices[kv_indptr.long()[request] + position // page_size].long()
    for new, tokens in ((keys, k_pages), (values, v_pages)):
        # Indexing does not know 8-bit floats everywhere; their bits are as good.
        if tokens.element_size() == 1:
            new, tokens = new.view(torch.uint8), tokens.view(torch.uint8)
        tokens[page, position % page_size] = new[stored]
