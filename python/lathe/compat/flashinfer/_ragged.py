"""The wrapper of ragged keys and values; `prefill` holds its name."""

from __future__ import annotations

import functools
from typing import Any

import torch

from lathe.compat.flashinfer._arguments import FLOAT8, DTypeLike, PagedKv, check_buffer, dtype_of, on_host, refuse_given
from lathe.compat.flashinfer._batches import Batch
from lathe.compat.flashinfer._kernels import split_tokens
from lathe.compat.flashinfer._masked import MaskedWrapper
from lathe.compat.flashinfer._wrapper import Factors, Shape, scaled
from lathe.errors import SpecError


class BatchPrefillWithRaggedKVCacheWrapper(MaskedWrapper):
    """Prefill of a batch whose keys and values are packed like its rows.

    Results are those of FlashInfer; workspaces that are given are not used. With `use_cuda_graph` the buffers that are given hold
    what is planned, and runs may be captured once and replayed after each plan, none with more rows or keys than the first.
    """

    def __init__(
        self,
        float_workspace_buffer: torch.Tensor,
        kv_layout: str = "NHD",
        use_cuda_graph: bool = False,
        qo_indptr_buf: torch.Tensor | None = None,
        kv_indptr_buf: torch.Tensor | None = None,
        custom_mask_buf: torch.Tensor | None = None,
        mask_indptr_buf: torch.Tensor | None = None,
        backend: str = "auto",
        jit_args: list[Any] | None = None,
        jit_kwargs: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(float_workspace_buffer, kv_layout, use_cuda_graph, backend)
        refuse_given(jit_args=jit_args, jit_kwargs=jit_kwargs)
        self._qo_indptr_buf = qo_indptr_buf
        self._kv_indptr_buf = kv_indptr_buf
        if use_cuda_graph:
            why = "where use_cuda_graph is True"
            self._custom_mask_buf, self._mask_indptr_buf = custom_mask_buf, mask_indptr_buf
            self._fixed_batch_size = len(check_buffer("qo_indptr_buf", qo_indptr_buf, why)) - 1
            if len(check_buffer("kv_indptr_buf", kv_indptr_buf, why)) != self._fixed_batch_size + 1:
                raise SpecError(
                    f"has not {self._fixed_batch_size + 1} entries; allowed: as many as qo_indptr_buf", where="kv_indptr_buf"
                )

    def plan(
        self,
        qo_indptr: torch.Tensor,
        kv_indptr: torch.Tensor,
        num_qo_heads: int,
        num_kv_heads: int,
        head_dim_qk: int,
        head_dim_vo: int | None = None,
        custom_mask: torch.Tensor | None = None,
        packed_custom_mask: torch.Tensor | None = None,
        causal: bool = False,
        pos_encoding_mode: str = "NONE",
        use_fp16_qk_reduction: bool = False,
        window_left: int = -1,
        logits_soft_cap: float | None = None,
        sm_scale: float | None = None,
        rope_scale: float | None = None,
        rope_theta: float | None = None,
        q_data_type: DTypeLike = "float16",
        kv_data_type: DTypeLike | None = None,
        o_data_type: DTypeLike | None = None,
        non_blocking: bool = True,
        prefix_len_ptr: torch.Tensor | None = None,
        token_pos_in_items_ptr: torch.Tensor | None = None,
        token_pos_in_items_len: int = 0,
        max_item_len_ptr: torch.Tensor | None = None,
        fixed_split_size: int | None = None,
        disable_split_kv: bool = False,
        seq_lens: torch.Tensor | None = None,
        seq_lens_q: torch.Tensor | None = None,
        max_token_per_sequence: int | None = None,
        max_sequence_kv: int | None = None,
        v_indptr: torch.Tensor | None = None,
        o_indptr: torch.Tensor | None = None,
    ) -> None:
        """Plans a batch. A custom mask takes the place of `causal`."""
        self._refuse_items(prefix_len_ptr, token_pos_in_items_ptr, token_pos_in_items_len, max_item_len_ptr)
        refuse_given(v_indptr=v_indptr, o_indptr=o_indptr)
        batch = Batch(qo_indptr=on_host("qo_indptr", qo_indptr), kv_indptr=on_host("kv_indptr", kv_indptr))
        if len(batch.kv_indptr) != len(batch.qo_indptr):
            raise SpecError(f"has {len(batch.kv_indptr)} entries; allowed: {len(batch.qo_indptr)}, as qo_indptr", where="kv_indptr")
        for name, lens, indptr in (("seq_lens", seq_lens, batch.kv_indptr), ("seq_lens_q", seq_lens_q, batch.qo_indptr)):
            if lens is not None and not torch.equal(on_host(name, lens.flatten()), indptr.diff()):
                raise SpecError("differs from the lengths of the arrays of offsets; allowed: the same", where=name)
        q_dtype = dtype_of("q_data_type", q_data_type)
        o_dtype = dtype_of("o_data_type", o_data_type, q_dtype)
        if o_dtype in FLOAT8:
            o_dtype = torch.bfloat16 if q_dtype in FLOAT8 else q_dtype
        shape = Shape(
            *(num_qo_heads, num_kv_heads, head_dim_qk, head_dim_vo or head_dim_qk, 0, q_dtype),
            kv_dtype=dtype_of("kv_data_type", kv_data_type, q_dtype),
            o_dtype=o_dtype,
            split_tokens=split_tokens(fixed_split_size, disable_split_kv, 0),
        )
        if self._use_cuda_graph:
            assert self._qo_indptr_buf is not None and self._kv_indptr_buf is not None
            self._check_graph(len(batch.qo_indptr) - 1, batch.rows, None, None)
            self._qo_indptr_buf.copy_(qo_indptr, non_blocking=non_blocking)
            self._kv_indptr_buf.copy_(kv_indptr, non_blocking=non_blocking)
        else:
            self._qo_indptr_buf = qo_indptr.to(self.device, non_blocking=non_blocking)
            self._kv_indptr_buf = kv_indptr.to(self.device, non_blocking=non_blocking)
        self._mask(batch, 0, custom_mask, packed_custom_mask, non_blocking)
        self._set_options(pos_encoding_mode, window_left, logits_soft_cap, sm_scale, rope_scale, rope_theta)
        self._causal = causal
        self._begin(shape, batch)

    begin_forward = plan

    def forward(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        causal: bool = False,
        pos_encoding_mode: str = "NONE",
        use_fp16_qk_reduction: bool = False,
        window_left: int = -1,
        logits_soft_cap: float | None = None,
        sm_scale: float | None = None,
        rope_scale: float | None = None,
        rope_theta: float | None = None,
    ) -> torch.Tensor:
        """`run` with options of its own; of an older interface."""
        self._causal = causal
        self._set_options(pos_encoding_mode, window_left, logits_soft_cap, sm_scale, rope_scale, rope_theta)
        result: torch.Tensor = self.run(q, k, v)
        return result

    def run(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        *args: Any,
        q_scale: float | None = None,
        k_scale: float | None = None,
        v_scale: float | None = None,
        o_scale: float | None = None,
        out: torch.Tensor | None = None,
        lse: torch.Tensor | None = None,
        return_lse: bool = False,
        enable_pdl: bool | None = None,
        kv_cache_sf: PagedKv | None = None,
    ) -> Any:
        """o [rows, heads, dim], or (o, lse). The result is multiplied by `v_scale` and divided by `o_scale`."""
        refuse_given(kv_cache_sf=kv_cache_sf)
        if self._kv_layout == "HND":
            k, v = k.transpose(0, 1), v.transpose(0, 1)
        factors = scaled(q_scale, k_scale, v_scale)
        if o_scale is not None:
            factors = Factors(factors.scores, factors.values / o_scale)
        return self._attend(*(q, k, v), factors=factors, out=out, lse=lse, return_lse=return_lse, head_scales=args)

    def forward_return_lse(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        causal: bool = False,
        pos_encoding_mode: str = "NONE",
        use_fp16_qk_reduction: bool = False,
        window_left: int = -1,
        logits_soft_cap: float | None = None,
        sm_scale: float | None = None,
        rope_scale: float | None = None,
        rope_theta: float | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """`forward`, with the log-sum-exp."""
        self._causal = causal
        self._set_options(pos_encoding_mode, window_left, logits_soft_cap, sm_scale, rope_scale, rope_theta)
        result: tuple[torch.Tensor, torch.Tensor] = self.run(q, k, v, return_lse=True)
        return result

    run_return_lse = functools.partialmethod(run, return_lse=True)
