"""Pages of a cache: lengths, places of new tokens, and storing them."""

from __future__ import annotations

import torch

import lathe.torch as lathe_torch
from lathe._arguments import read_integer
from lathe._torch_arguments import check_tensors as refuse_gradients
from lathe.compat.flashinfer._arguments import (
    LAYOUTS,
    PagedKv,
    check_choice,
    check_like,
    check_sizes,
    check_tensors,
    check_whole,
    unpack,
)
from lathe.errors import SpecError

__all__ = ["append_paged_kv_cache", "get_batch_indices_positions", "get_seq_lens"]


def get_seq_lens(kv_indptr: torch.Tensor, kv_last_page_len: torch.Tensor, page_size: int) -> torch.Tensor:
    """Tokens of each request: those of its full pages, and `kv_last_page_len`.

    Parameters
    ----------
    kv_indptr : whole numbers, [batch + 1]
        Where each request's pages begin.
    kv_last_page_len : whole numbers, [batch]
        Tokens in the last page of each.
    page_size : int
        Tokens of a page.

    Returns
    -------
    Tensor, [batch]

    Raises
    ------
    SpecError
        Other shapes or types.
    """
    check_whole(kv_indptr=kv_indptr, kv_last_page_len=kv_last_page_len)
    check_tensors(kv_indptr=kv_indptr, kv_last_page_len=kv_last_page_len)
    check_sizes(page_size=page_size)
    if len(kv_indptr) != len(kv_last_page_len) + 1:
        raise SpecError(
            f"has {len(kv_indptr)} entries; allowed: {len(kv_last_page_len) + 1}, one more than kv_last_page_len", where="kv_indptr"
        )
    return (kv_indptr.diff() - 1).clamp(min=0) * page_size + kv_last_page_len


def get_batch_indices_positions(
    append_indptr: torch.Tensor,
    seq_lens: torch.Tensor,
    nnz: int,
    batch_indices: torch.Tensor | None = None,
    positions: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Request and position of each appended token. Waits for nothing.

    Parameters
    ----------
    append_indptr : whole numbers, [batch + 1]
        Where each request's new tokens begin.
    seq_lens : whole numbers, [batch]
        Tokens of each request, the new ones counted.
    nnz : int
        Tokens; those behind ``append_indptr[-1]`` have the request -1.
    batch_indices, positions : i32 Tensor, [nnz], optional
        Where the results go.

    Returns
    -------
    batch_indices, positions : i32 Tensor, [nnz]

    Raises
    ------
    SpecError
        Other shapes, types or devices.
    """
    check_whole(append_indptr=append_indptr, seq_lens=seq_lens)
    check_tensors(append_indptr=append_indptr, seq_lens=seq_lens)
    if len(append_indptr) != len(seq_lens) + 1:
        raise SpecError(
            f"has {len(append_indptr)} entries; allowed: {len(seq_lens) + 1}, one more than seq_lens", where="append_indptr"
        )
    if read_integer("nnz", nnz) < 0:
        raise SpecError(f"is {nnz}; allowed: 0 or more", where="nnz")
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
    if len(seq_lens) > 0:
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
    """Stores new keys and values in pages, at their positions.

    Parameters
    ----------
    append_key, append_value : Tensor, [tokens, kv_heads, dim]
        Of the cache's types; f16, bf16 or 8 bits.
    batch_indices, positions : i32 Tensor, [tokens]
        Of each token; those of the request -1 are passed over.
    paged_kv_cache : Tensor or tuple of two
        [pages, 2, page_size, kv_heads, dim] with NHD, with the heads before the tokens with HND; two of them have no 2.
    kv_indices, kv_indptr, kv_last_page_len : i32 Tensor
        Pages of the requests; the last pages' lengths are not read.
    kv_layout : {"NHD", "HND"}

    Raises
    ------
    SpecError
        Other shapes, types or devices; of 8 bits, also places beyond the pages of their requests.

    Notes
    -----
    Keys and values of 16 bits are stored by one operator, which waits for nothing and may be captured. Those of 8 bits are stored
    as they are by functions of PyTorch that read the device: they wait for it, and cannot be captured in a CUDA graph.
    """
    check_tensors(append_key=append_key, append_value=append_value, batch_indices=batch_indices, positions=positions)
    refuse_gradients({}, append_key=append_key, append_value=append_value)
    caches = unpack(paged_kv_cache, check_choice("kv_layout", kv_layout, LAYOUTS))
    pages = [cache if kv_layout == "NHD" else cache.transpose(1, 2) for cache in caches]
    for name, new, tokens in zip(("append_key", "append_value"), (append_key, append_value), pages, strict=True):
        if new.dtype != tokens.dtype:
            raise SpecError(f"has elements of {new.dtype}; allowed: {tokens.dtype}, as the cache", where=name)
        if new.dim() != 3 or tuple(new.shape) != (len(append_key), *tokens.shape[2:]):
            raise SpecError(
                f"has the shape {list(new.shape)}; allowed: [{len(append_key)}, {tokens.shape[2]}, {tokens.shape[3]}]", where=name
            )
    check_tensors(append_key.device, paged_kv_cache=caches[0], kv_indices=kv_indices, kv_indptr=kv_indptr)
    for name, value in (("batch_indices", batch_indices), ("positions", positions)):
        check_like(name, value, (len(append_key),), torch.int32, append_key.device)
    check_whole(kv_indices=kv_indices, kv_indptr=kv_indptr, kv_last_page_len=kv_last_page_len)
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
    if len(request) and not int(request.max()) < len(kv_indptr) - 1:
        raise SpecError(f"holds {int(request.max())}; allowed: below {len(kv_indptr) - 1}, the requests", where="batch_indices")
    slot = kv_indptr.long()[request] + position // page_size
    if bool(((slot >= kv_indptr.long()[request + 1]) | (position < 0)).any()):
        raise SpecError("holds places beyond the pages of their requests; allowed: places in them", where="positions")
    page = kv_indices[slot].long()
    for new, tokens in ((keys, k_pages), (values, v_pages)):
        # Indexing does not know 8-bit floats everywhere; their bits are as good.
        if tokens.element_size() == 1:
            new, tokens = new.view(torch.uint8), tokens.view(torch.uint8)
        tokens[page, position % page_size] = new[stored]
