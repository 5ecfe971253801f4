"""States of attention over parts of the keys, merged; levels of keys that requests share."""

from __future__ import annotations

from typing import Any

import torch

from lathe.compat.flashinfer._all_or_nothing import together
from lathe.compat.flashinfer._arguments import DTypeLike, PagedKv, check_sizes
from lathe.compat.flashinfer._shared_prefix import (
    BatchDecodeWithSharedPrefixPagedKVCacheWrapper,
    BatchPrefillWithSharedPrefixPagedKVCacheWrapper,
)
from lathe.compat.flashinfer._states import merge_state, merge_state_in_place, merge_states
from lathe.compat.flashinfer.prefill import BatchPrefillWithPagedKVCacheWrapper
from lathe.errors import SpecError

__all__ = [
    "BatchDecodeWithSharedPrefixPagedKVCacheWrapper",
    "BatchPrefillWithSharedPrefixPagedKVCacheWrapper",
    "MultiLevelCascadeAttentionWrapper",
    "merge_state",
    "merge_state_in_place",
    "merge_states",
]


class MultiLevelCascadeAttentionWrapper:
    """Attention over levels of keys, from those that all requests share to those of one; each level has its own ranges of rows.

    Levels run one after the other and are merged by their log-sum-exps (Ye et al., arXiv 2501.01005). `causal` holds for the
    last one.

    Parameters
    ----------
    num_levels : int
        1 or more.
    float_workspace_buffer, kv_layout, use_cuda_graph
        As in `BatchPrefillWithPagedKVCacheWrapper`.
    qo_indptr_buf_arr, paged_kv_indptr_buf_arr, paged_kv_indices_buf_arr, paged_kv_last_page_len_buf_arr : lists of Tensor, optional
        With `use_cuda_graph`: the buffers of each level.

    Raises
    ------
    SpecError
        Lists without one entry for each level, and what the wrapper of a level refuses.
    """

    def __init__(
        self,
        num_levels: int,
        float_workspace_buffer: torch.Tensor,
        kv_layout: str = "NHD",
        use_cuda_graph: bool = False,
        qo_indptr_buf_arr: list[torch.Tensor] | None = None,
        paged_kv_indptr_buf_arr: list[torch.Tensor] | None = None,
        paged_kv_indices_buf_arr: list[torch.Tensor] | None = None,
        paged_kv_last_page_len_buf_arr: list[torch.Tensor] | None = None,
    ) -> None:
        check_sizes(num_levels=num_levels)
        self._num_levels = num_levels
        self._use_cuda_graph = use_cuda_graph
        self._kv_layout = kv_layout
        names = ("qo_indptr_buf", "paged_kv_indptr_buf", "paged_kv_indices_buf", "paged_kv_last_page_len_buf")
        arrays = (qo_indptr_buf_arr, paged_kv_indptr_buf_arr, paged_kv_indices_buf_arr, paged_kv_last_page_len_buf_arr)
        buffers: list[dict[str, Any]] = [{} for _ in range(num_levels)]
        if use_cuda_graph:
            for name, array in zip(names, arrays, strict=True):
                for level, buffer in zip(buffers, self._levels(f"{name}_arr", array), strict=True):
                    level[name] = buffer
        self._batch_prefill_wrappers = [
            BatchPrefillWithPagedKVCacheWrapper(float_workspace_buffer, kv_layout, use_cuda_graph, **level) for level in buffers
        ]

    def _levels(self, name: str, array: list[torch.Tensor] | None) -> list[torch.Tensor]:
        if array is None or len(array) != self._num_levels:
            raise SpecError(
                f"has {0 if array is None else len(array)} entries; allowed: {self._num_levels}, one for each level", where=name
            )
        return array

    @property
    def is_cuda_graph_enabled(self) -> bool:
        """Whether plans go to the buffers of captured graphs."""
        return self._use_cuda_graph

    def reset_workspace_buffer(self, float_workspace_buffer: torch.Tensor, int_workspace_buffers: list[torch.Tensor]) -> None:
        """Other buffers, which Lathe does not use.

        Parameters
        ----------
        float_workspace_buffer : Tensor
        int_workspace_buffers : list of Tensor
            One for each level; all at addresses of whole 16 bytes.

        Raises
        ------
        SpecError
            A list without one entry for each level; what is no tensor, or lies elsewhere.
        """
        for wrapper, buffer in zip(
            self._batch_prefill_wrappers, self._levels("int_workspace_buffers", int_workspace_buffers), strict=True
        ):
            wrapper.reset_workspace_buffer(float_workspace_buffer, buffer)

    def plan(
        self,
        qo_indptr_arr: list[torch.Tensor],
        paged_kv_indptr_arr: list[torch.Tensor],
        paged_kv_indices_arr: list[torch.Tensor],
        paged_kv_last_page_len: list[torch.Tensor],
        num_qo_heads: int,
        num_kv_heads: int,
        head_dim: int,
        page_size: int,
        causal: bool = False,
        pos_encoding_mode: str = "NONE",
        use_fp16_qk_reduction: bool = False,
        sm_scale: float | None = None,
        window_left: int = -1,
        logits_soft_cap: float | None = None,
        rope_scale: float | None = None,
        rope_theta: float | None = None,
        q_data_type: str = "float16",
        kv_data_type: DTypeLike | None = None,
    ) -> None:
        """Plans each level.

        Parameters that are not listed here are those of `BatchPrefillWithPagedKVCacheWrapper.plan`.

        Parameters
        ----------
        qo_indptr_arr, paged_kv_indptr_arr, paged_kv_indices_arr, paged_kv_last_page_len : lists of Tensor
            Of each level, as in the plan of prefill.
        causal : bool
            Of the last level; others are seen as a whole.
        head_dim : int
            Of q, k and v.
        pos_encoding_mode, window_left : optional
            As in the plan of prefill. Positions and windows are those of each level by itself.

        Raises
        ------
        SpecError
            Lists without one entry for each level, and what the plan of a level refuses. All levels are as before.
        """
        with together(self._batch_prefill_wrappers):
            for level, wrapper in enumerate(self._batch_prefill_wrappers):
                wrapper.plan(
                    self._levels("qo_indptr_arr", qo_indptr_arr)[level],
                    self._levels("paged_kv_indptr_arr", paged_kv_indptr_arr)[level],
                    self._levels("paged_kv_indices_arr", paged_kv_indices_arr)[level],
                    self._levels("paged_kv_last_page_len", paged_kv_last_page_len)[level],
                    *(num_qo_heads, num_kv_heads, head_dim, page_size),
                    causal=causal and level == self._num_levels - 1,
                    pos_encoding_mode=pos_encoding_mode,
                    use_fp16_qk_reduction=use_fp16_qk_reduction,
                    sm_scale=sm_scale,
                    window_left=window_left,
                    logits_soft_cap=logits_soft_cap,
                    rope_scale=rope_scale,
                    rope_theta=rope_theta,
                    q_data_type=q_data_type,
                    kv_data_type=kv_data_type,
                )

    begin_forward = plan

    def run(self, q: torch.Tensor, paged_kv_cache: PagedKv) -> torch.Tensor:
        """Runs each level, and merges them.

        Parameters
        ----------
        q : Tensor, [rows, num_qo_heads, head_dim]
        paged_kv_cache : Tensor or tuple of two
            As in a run of prefill; all levels' pages lie in it.

        Returns
        -------
        o : Tensor, [rows, num_qo_heads, head_dim]

        Raises
        ------
        SpecError
            Tensors that are not those of the plan.
        """
        states = [wrapper.run(q, paged_kv_cache, return_lse=True) for wrapper in self._batch_prefill_wrappers]
        if len(states) == 1:
            result: torch.Tensor = states[0][0]
            return result
        return merge_states(torch.stack([o for o, _ in states], dim=1), torch.stack([lse for _, lse in states], dim=1))[0]

    forward = run
