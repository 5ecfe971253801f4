"""Wrappers of batches that share one prefix, which lies apart from the pages; `cascade` holds their names."""

from __future__ import annotations

import torch

from lathe.compat.flashinfer._arguments import PagedKv
from lathe.compat.flashinfer._states import merge_state
from lathe.compat.flashinfer.decode import BatchDecodeWithPagedKVCacheWrapper
from lathe.compat.flashinfer.prefill import BatchPrefillWithPagedKVCacheWrapper, single_prefill_with_kv_cache_return_lse


class BatchDecodeWithSharedPrefixPagedKVCacheWrapper:
    """Decoding of requests whose keys are those of one prefix, and behind them their own pages. An older interface.

    The two parts are merged by their log-sum-exps, as in `merge_state`.

    Parameters
    ----------
    float_workspace_buffer : Tensor
        Says on which device the wrapper runs; else not used.
    kv_layout : {"NHD", "HND"}
        Tokens before heads, or heads before tokens.

    Raises
    ------
    SpecError
        What is no tensor, or no such layout.
    """

    def __init__(self, float_workspace_buffer: torch.Tensor, kv_layout: str = "NHD") -> None:
        self._batch_decode_wrapper = BatchDecodeWithPagedKVCacheWrapper(float_workspace_buffer, kv_layout)
        self._kv_layout = kv_layout

    def reset_workspace_buffer(self, float_workspace_buffer: torch.Tensor, int_workspace_buffer: torch.Tensor) -> None:
        """Other buffers, which Lathe does not use.

        Parameters and errors are those of `BatchDecodeWithPagedKVCacheWrapper.reset_workspace_buffer`.
        """
        self._batch_decode_wrapper.reset_workspace_buffer(float_workspace_buffer, int_workspace_buffer)

    def begin_forward(
        self,
        unique_kv_indptr: torch.Tensor,
        unique_kv_indices: torch.Tensor,
        unique_kv_last_page_len: torch.Tensor,
        num_qo_heads: int,
        num_kv_heads: int,
        head_dim: int,
        page_size: int,
        data_type: str = "float16",
    ) -> None:
        """Plans the requests' own pages.

        Parameters
        ----------
        unique_kv_indptr, unique_kv_indices, unique_kv_last_page_len : whole numbers, [batch + 1], [entries], [batch]
            As in `BatchDecodeWithPagedKVCacheWrapper.plan`, for the keys behind the prefix.
        num_qo_heads, num_kv_heads, head_dim, page_size : int
        data_type : torch.dtype or str
            Of q and of the cache.

        Raises
        ------
        SpecError
            As of that plan.
        """
        self._batch_decode_wrapper.plan(
            *(unique_kv_indptr, unique_kv_indices, unique_kv_last_page_len, num_qo_heads, num_kv_heads, head_dim, page_size),
            q_data_type=data_type,
            kv_data_type=data_type,
        )

    def forward(self, q: torch.Tensor, k_shared: torch.Tensor, v_shared: torch.Tensor, unique_kv_cache: PagedKv) -> torch.Tensor:
        """Attention over the prefix and the requests' own pages.

        Parameters
        ----------
        q : Tensor, [batch, num_qo_heads, head_dim]
        k_shared, v_shared : Tensor, [keys, num_kv_heads, head_dim]
            The prefix; with HND the heads come first.
        unique_kv_cache : Tensor or tuple of two
            As `paged_kv_cache` in `BatchDecodeWithPagedKVCacheWrapper.run`.

        Returns
        -------
        Tensor, [batch, num_qo_heads, head_dim]

        Raises
        ------
        SpecError
            Tensors that are not those of the plan.
        """
        o, lse = single_prefill_with_kv_cache_return_lse(q, k_shared, v_shared, kv_layout=self._kv_layout)
        own_o, own_lse = self._batch_decode_wrapper.forward_return_lse(q, unique_kv_cache)
        return merge_state(o, lse, own_o, own_lse)[0]

    def end_forward(self) -> None:
        """Does nothing."""


class BatchPrefillWithSharedPrefixPagedKVCacheWrapper:
    """Prefill of requests whose keys are those of one prefix, and behind them their own pages. An older interface.

    The two parts are merged by their log-sum-exps, as in `merge_state`.

    Parameters
    ----------
    float_workspace_buffer : Tensor
        Says on which device the wrapper runs; else not used.
    kv_layout : {"NHD", "HND"}
        Tokens before heads, or heads before tokens.

    Raises
    ------
    SpecError
        What is no tensor, or no such layout.
    """

    def __init__(self, float_workspace_buffer: torch.Tensor, kv_layout: str = "NHD") -> None:
        self._batch_prefill_wrapper = BatchPrefillWithPagedKVCacheWrapper(float_workspace_buffer, kv_layout)
        self._kv_layout = kv_layout

    def reset_workspace_buffer(self, float_workspace_buffer: torch.Tensor, int_workspace_buffer: torch.Tensor) -> None:
        """Other buffers, which Lathe does not use.

        Parameters and errors are those of `BatchPrefillWithPagedKVCacheWrapper.reset_workspace_buffer`.
        """
        self._batch_prefill_wrapper.reset_workspace_buffer(float_workspace_buffer, int_workspace_buffer)

    def begin_forward(
        self,
        qo_indptr: torch.Tensor,
        paged_kv_indptr: torch.Tensor,
        paged_kv_indices: torch.Tensor,
        paged_kv_last_page_len: torch.Tensor,
        num_qo_heads: int,
        num_kv_heads: int,
        head_dim: int,
        page_size: int,
    ) -> None:
        """Plans the requests' own pages; q and the cache are f16.

        Parameters and errors are those of `BatchPrefillWithPagedKVCacheWrapper.plan`.

        Parameters
        ----------
        head_dim : int
            Of q, k and v.
        """
        self._batch_prefill_wrapper.plan(
            *(qo_indptr, paged_kv_indptr, paged_kv_indices, paged_kv_last_page_len),
            *(num_qo_heads, num_kv_heads, head_dim, page_size),
        )

    def forward(
        self,
        q: torch.Tensor,
        k_shared: torch.Tensor,
        v_shared: torch.Tensor,
        unique_kv_cache: PagedKv,
        causal: bool = False,
        use_fp16_qk_reduction: bool = False,
        sm_scale: float | None = None,
        rope_scale: float | None = None,
        rope_theta: float | None = None,
    ) -> torch.Tensor:
        """Attention over the prefix and the requests' own pages.

        Parameters
        ----------
        q : Tensor, [rows, num_qo_heads, head_dim]
        k_shared, v_shared : Tensor, [keys, num_kv_heads, head_dim]
            The prefix; with HND the heads come first.
        unique_kv_cache : Tensor or tuple of two
            As `paged_kv_cache` in `BatchPrefillWithPagedKVCacheWrapper.run`.
        causal : bool
            Holds for the requests' own keys.
        use_fp16_qk_reduction : bool
            A hint, which changes no result.
        sm_scale : float, optional
            Of scores; 1 / sqrt(head_dim) when left out.
        rope_scale, rope_theta : float, optional
            Say nothing, as positions are not encoded.

        Returns
        -------
        Tensor, [rows, num_qo_heads, head_dim]

        Raises
        ------
        SpecError
            Tensors that are not those of the plan.
        """
        o, lse = single_prefill_with_kv_cache_return_lse(q, k_shared, v_shared, kv_layout=self._kv_layout, sm_scale=sm_scale)
        own_o, own_lse = self._batch_prefill_wrapper.forward_return_lse(q, unique_kv_cache, causal=causal, sm_scale=sm_scale)
        return merge_state(o, lse, own_o, own_lse)[0]

    def end_forward(self) -> None:
        """Does nothing."""
