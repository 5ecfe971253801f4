"""Rows of requests against keys of their own, ragged or in pages."""

from __future__ import annotations

import functools

import torch

from lathe.compat.flashinfer import _batches
from lathe.compat.flashinfer._arguments import (
    LAYOUTS,
    POSITIONS,
    check_choice,
    check_options,
    check_tensors,
    dtype_of,
    refuse_given,
)
from lathe.compat.flashinfer._kernels import Features, compute_dtype
from lathe.compat.flashinfer._masked import check_bits, check_mask
from lathe.compat.flashinfer._paged import BatchPrefillWithPagedKVCacheWrapper
from lathe.compat.flashinfer._ragged import BatchPrefillWithRaggedKVCacheWrapper
from lathe.compat.flashinfer._wrapper import BACKENDS, Factors, finish, head_factors, scaled
from lathe.compat.flashinfer.quantization import packbits
from lathe.errors import SpecError

__all__ = [
    "BatchPrefillWithPagedKVCacheWrapper",
    "BatchPrefillWithRaggedKVCacheWrapper",
    "single_prefill_with_kv_cache",
    "single_prefill_with_kv_cache_return_lse",
]


def single_prefill_with_kv_cache(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    scale_q: torch.Tensor | None = None,
    scale_k: torch.Tensor | None = None,
    scale_v: torch.Tensor | None = None,
    o_dtype: torch.dtype | None = None,
    custom_mask: torch.Tensor | None = None,
    packed_custom_mask: torch.Tensor | None = None,
    causal: bool = False,
    kv_layout: str = "NHD",
    pos_encoding_mode: str = "NONE",
    use_fp16_qk_reduction: bool = False,
    sm_scale: float | None = None,
    window_left: int = -1,
    logits_soft_cap: float | None = None,
    rope_scale: float | None = None,
    rope_theta: float | None = None,
    backend: str = "auto",
    return_lse: bool = False,
    kv_cache_sf: tuple[torch.Tensor, torch.Tensor] | None = None,
    k_scale: float | None = None,
    v_scale: float | None = None,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """Attention of one request.

    Parameters
    ----------
    q : Tensor, [rows, num_qo_heads, head_dim_qk]
    k, v : Tensor, [keys, num_kv_heads, dim]
        With `kv_layout` HND the heads come first.
    kv_layout : {"NHD", "HND"}
    scale_q, scale_k, scale_v : f32 Tensor, optional
        One factor for each head of q, and of k and v.
    o_dtype : torch.dtype, optional
        Of the result; q's when left out.
    custom_mask : bool Tensor, optional
        One element for each pair of row and key, request by request; takes the place of `causal`.
    packed_custom_mask : u8 Tensor, optional
        The same as little-endian bits (`segment_packbits`), each request from a byte on.
    causal : bool
        Rows see keys up to their own place, where the last row stands at the last key.
    sm_scale : float, optional
        Of scores; 1 / sqrt(head_dim_qk) when left out.
    window_left : int
        Keys before its own place that a row sees; below 0 all.
    logits_soft_cap : float, optional
        ``cap * tanh(score / cap)`` where above 0.
    pos_encoding_mode : {"NONE", "ROPE_LLAMA", "ALIBI"}
    rope_scale, rope_theta : float, optional
        1 and 1e4 when left out.
    k_scale, v_scale : float, optional
        Factors of what k and v hold.
    return_lse : bool
    use_fp16_qk_reduction, backend : optional
        Hints, which change no result; `backend` is a name of FlashInfer's but cudnn.
    kv_cache_sf : None

    Returns
    -------
    o : Tensor, [rows, num_qo_heads, head_dim_vo]
    lse : f32 Tensor, [rows, num_qo_heads], base 2
        With `return_lse`.

    Raises
    ------
    SpecError
        What is wrong; `Unsupported` where FlashInfer takes it.
    """
    refuse_given(kv_cache_sf=kv_cache_sf)
    check_choice("backend", backend, BACKENDS)
    check_tensors(q=q, k=k, v=v)
    check_options(window_left, logits_soft_cap, sm_scale, rope_scale, rope_theta)
    if q.dim() != 3 or k.dim() != 3 or v.dim() != 3:
        raise SpecError(
            f"{list(q.shape)}, {list(k.shape)}, {list(v.shape)}; allowed: three dimensions", where="shapes of q, k and v"
        )
    if check_choice("kv_layout", kv_layout, LAYOUTS) == "HND":
        k, v = k.transpose(0, 1), v.transpose(0, 1)
    if k.shape[1] == 0 or q.shape[1] % k.shape[1] != 0:
        raise SpecError(f"has {q.shape[1]} heads, k has {k.shape[1]}; allowed: a multiple of k's", where="q")
    if custom_mask is not None and packed_custom_mask is None:
        packed_custom_mask = packbits(check_mask(custom_mask, q.shape[0] * k.shape[0]), bitorder="little")
    qo_indptr, kv_indptr = (torch.tensor([0, rows], dtype=torch.int32, device="cpu") for rows in (q.shape[0], k.shape[0]))
    batch = _batches.Batch(qo_indptr=qo_indptr, kv_indptr=kv_indptr)
    if packed_custom_mask is not None:
        check_bits("packed_custom_mask", packed_custom_mask, -(-q.shape[0] * k.shape[0] // 8))
        batch.mask_bits = packed_custom_mask.to(q.device)
        batch.mask_indptr = torch.tensor([0, packed_custom_mask.numel()], device="cpu")
    o_dtype = dtype_of("o_dtype", o_dtype, q.dtype)
    features = Features(
        *(q.dtype, k.dtype, o_dtype, q.shape[1] // k.shape[1], q.shape[2], v.shape[2]),
        page_size=0,
        layout="NHD",
        causal=bool(causal),
        windowed=window_left >= 0,
        own_mask="" if packed_custom_mask is None else "bits",
        soft_cap=(logits_soft_cap or 0.0) > 0,
        positions=check_choice("pos_encoding_mode", pos_encoding_mode, POSITIONS),
        rope_scale=rope_scale or 1.0,
        rope_theta=rope_theta or 1e4,
        split_tokens=0,
    )
    factors = scaled(None, k_scale, v_scale)
    if any(scale is not None for scale in (scale_q, scale_k, scale_v)):
        q, of_heads = head_factors(q, (scale_q, scale_k, scale_v), k.shape[1])
        factors = Factors(of_heads.scores * factors.scores, factors.values, of_heads.value_heads)
    numbers = _batches.Numbers(
        window_left,
        (sm_scale if sm_scale is not None else q.shape[2] ** -0.5) * factors.scores,
        max(logits_soft_cap or 0.0, 0.0),
    )
    result = q.new_empty((*q.shape[:2], v.shape[2]), dtype=compute_dtype(o_dtype))
    lse = q.new_empty(q.shape[:2], dtype=torch.float32)
    _batches.attend(features, batch, numbers, q.to(compute_dtype(q.dtype)), k, v, result, lse)
    o = finish(result, None, lse, factors, None, o_dtype)
    return (o, lse) if return_lse else o


single_prefill_with_kv_cache_return_lse = functools.partial(single_prefill_with_kv_cache, return_lse=True)
