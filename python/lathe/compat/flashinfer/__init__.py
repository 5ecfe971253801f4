"""The attention wrappers of FlashInfer, on Lathe.

Programs that were written for them run with one import changed::

    import lathe.compat.flashinfer as flashinfer

or, where imports cannot be changed, after `install`. Names, arguments, presets and results are those of FlashInfer 0.6.18;
docs/compat-flashinfer.md says what is served. What is not offered is absent, and arguments that are not served are refused by name
with `Unsupported`, which is a ValueError and a NotImplementedError.
"""

from __future__ import annotations

import sys

from lathe.compat.flashinfer import cascade, decode, page, prefill, quantization
from lathe.compat.flashinfer._arguments import Unsupported
from lathe.compat.flashinfer.cascade import (
    BatchDecodeWithSharedPrefixPagedKVCacheWrapper,
    BatchPrefillWithSharedPrefixPagedKVCacheWrapper,
    MultiLevelCascadeAttentionWrapper,
    merge_state,
    merge_state_in_place,
    merge_states,
)
from lathe.compat.flashinfer.decode import (
    BatchDecodeWithPagedKVCacheWrapper,
    CUDAGraphBatchDecodeWithPagedKVCacheWrapper,
    fast_decode_plan,
    single_decode_with_kv_cache,
)
from lathe.compat.flashinfer.page import append_paged_kv_cache, get_batch_indices_positions, get_seq_lens
from lathe.compat.flashinfer.prefill import (
    BatchPrefillWithPagedKVCacheWrapper,
    BatchPrefillWithRaggedKVCacheWrapper,
    single_prefill_with_kv_cache,
    single_prefill_with_kv_cache_return_lse,
)
from lathe.compat.flashinfer.quantization import packbits, segment_packbits
from lathe.errors import Error

__all__ = [
    "BatchDecodeWithPagedKVCacheWrapper",
    "BatchDecodeWithSharedPrefixPagedKVCacheWrapper",
    "BatchPrefillWithPagedKVCacheWrapper",
    "BatchPrefillWithRaggedKVCacheWrapper",
    "BatchPrefillWithSharedPrefixPagedKVCacheWrapper",
    "CUDAGraphBatchDecodeWithPagedKVCacheWrapper",
    "MultiLevelCascadeAttentionWrapper",
    "Unsupported",
    "append_paged_kv_cache",
    "cascade",
    "decode",
    "fast_decode_plan",
    "get_batch_indices_positions",
    "get_seq_lens",
    "install",
    "merge_state",
    "merge_state_in_place",
    "merge_states",
    "packbits",
    "page",
    "prefill",
    "quantization",
    "segment_packbits",
    "single_decode_with_kv_cache",
    "single_prefill_with_kv_cache",
    "single_prefill_with_kv_cache_return_lse",
]


def install() -> None:
    """Makes ``import flashinfer`` of this process mean this module. May be called again.

    Raises
    ------
    lathe.Error
        FlashInfer itself was imported before.
    """
    known = sys.modules.get("flashinfer")
    if known is not None and known.__name__ != __name__:
        raise Error("was imported before; allowed: install() first", where="flashinfer", code="invalid_argument")
    for name in ("", ".cascade", ".decode", ".page", ".prefill", ".quantization"):
        sys.modules[f"flashinfer{name}"] = sys.modules[__name__ + name]
