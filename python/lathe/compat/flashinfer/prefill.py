"""Rows of requests against keys of their own, ragged or in pages."""

from __future__ import annotations

import functools

import torch

from lathe.compat.flashinfer import _batches
from lathe.compat.flashinfer._arguments import LAYOUTS, POSITIONS, check_choice, refuse_given
from lathe.compat.flashinfer._kernels import Features, compute_dtype
from lathe.compat.flashinfer._masked import check_bits
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
    """Rows [rows, heads, dim] against keys of [keys, kv_heads, dim] (NHD) or [kv_heads, keys, dim] (HND).

    `scale_q`, `scale_k` and `scale_v` hold one factor for each head of q, and of k and v.
    """
    refuse_given(kv_cache_sf=kv_cache_sf)
    check_choice("backend", backend, BACKENDS)
    if q.dim() != 3 or k.dim() != 3 or v.dim() != 3:
        raise SpecError(
            f"{list(q.shape)}, {list(k.shape)}, {list(v.shape)}; allowed: three dimensions", where="shapes of q, k and v"
        )
    if check_choice("kv_layout", kv_layout, LAYOUTS) == "HND":
        k, v = k.transpose(0, 1), v.transpose(0, 1)
    if k.shape[1] == 0 or q.shape[1] % k.shape[1] != 0:
        raise SpecError(f"has {q.shape[1]} heads, k has {k.shape[1]}; allowed: a multiple of k's", where="q")
    if custom_mask is not None and packed_custom_mask is None:
        packed_custom_mask = packbits(custom_mask.reshape(-1), bitorder="little")
    batch = _batches.Batch(
        qo_indptr=torch.tensor([0, q.shape[0]], dtype=torch.int32), kv_indptr=torch.tensor([0, k.shape[0]], dtype=torch.int32)
    )
    if packed_custom_mask is not None:
        check_bits("packed_custom_mask", packed_custom_mask, -(-q.shape[0] * k.shape[0] // 8))
        batch.mask_bits, batch.mask_indptr = packed_custom_mask.to(q.device), torch.tensor([0, packed_custom_mask.numel()])
    o_dtype = q.dtype if o_dtype is None else o_dtype
    features = Features(
        *(q.dtype, k.dtype, o_dtype, q.shape[1] // k.shape[1], q.shape[2], v.shape[2]),
        page_size=0,
        layout="NHD",
        causal=causal,
        windowed=window_left >= 0,
        masked=packed_custom_mask is not None,
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
