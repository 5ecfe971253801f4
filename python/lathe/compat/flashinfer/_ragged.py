"""The wrapper of ragged keys and values; `prefill` holds its name."""

from __future__ import annotations

import functools
from typing import Any

import torch

from lathe._arguments import read_positive
from lathe.compat.flashinfer._all_or_nothing import all_or_nothing
from lathe.compat.flashinfer._arguments import (
    FLOAT8,
    DTypeLike,
    PagedKv,
    check_index_buffer,
    check_lens,
    check_sizes,
    check_tensors,
    dtype_of,
    offsets_on_host,
    refuse_given,
    scalar,
)
from lathe.compat.flashinfer._batches import Batch
from lathe.compat.flashinfer._items import item_rows
from lathe.compat.flashinfer._kernels import split_tokens
from lathe.compat.flashinfer._masked import MaskedWrapper
from lathe.compat.flashinfer._wrapper import Factors, Shape, scaled
from lathe.errors import SpecError


class BatchPrefillWithRaggedKVCacheWrapper(MaskedWrapper):
    """Prefill of a batch whose keys and values are packed like its rows.

    Results are those of FlashInfer; workspaces that are given are not used. With `use_cuda_graph` the buffers that are given hold
    what is planned, and runs may be captured once and replayed after each plan, none with more rows or keys than the first.

    Parameters
    ----------
    float_workspace_buffer : Tensor
        Says on which device the wrapper runs; at an address of whole 16 bytes, else not used.
    kv_layout : {"NHD", "HND"}
        Tokens before heads, or heads before tokens.
    use_cuda_graph : bool
    qo_indptr_buf, kv_indptr_buf : i32 Tensor, [batch + 1], optional
        With `use_cuda_graph`.
    custom_mask_buf, mask_indptr_buf : u8 and i32 Tensor, optional
        With `use_cuda_graph` and custom masks: as many bytes as the largest mask, [batch + 1].
    backend : str
        A hint: names of FlashInfer's kernels but cudnn.
    jit_args, jit_kwargs : None

    Raises
    ------
    SpecError
        Buffers of other sizes or types; `Unsupported` where FlashInfer takes it.
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
            self._fixed_batch_size = len(check_index_buffer("qo_indptr_buf", qo_indptr_buf, why, self.device)) - 1
            if (count := len(check_index_buffer("kv_indptr_buf", kv_indptr_buf, why, self.device))) != self._fixed_batch_size + 1:
                raise SpecError(
                    f"has {count} entries; allowed: {self._fixed_batch_size + 1}, as qo_indptr_buf", where="kv_indptr_buf"
                )

    @all_or_nothing
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
        """Plans a batch.

        Parameters
        ----------
        qo_indptr, kv_indptr : whole numbers, [batch + 1]
            Where the rows of q, and of k and v, begin.
        num_qo_heads, num_kv_heads, head_dim_qk, head_dim_vo : int
            The last is `head_dim_qk` when left out.
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
        q_data_type, kv_data_type, o_data_type : torch.dtype or str, optional
            f16, bf16 or 8 bits; keys and results are as q when left out.
        fixed_split_size, disable_split_kv : int and bool, optional
            How keys are split over blocks: in tokens.
        prefix_len_ptr, token_pos_in_items_ptr, token_pos_in_items_len, max_item_len_ptr : optional
            For scoring many items at once, as in `BatchPrefillWithPagedKVCacheWrapper.plan`.
        seq_lens, seq_lens_q : whole numbers, [batch], optional
            Keys and rows of each request said again; they must agree.
        use_fp16_qk_reduction, non_blocking, max_token_per_sequence, max_sequence_kv : optional
            Hints, which change no result.
        v_indptr, o_indptr : None

        Raises
        ------
        SpecError
            What is wrong by itself or beside the rest; `Unsupported` where FlashInfer takes it. The wrapper is as before.
        """
        refuse_given(v_indptr=v_indptr, o_indptr=o_indptr)
        check_sizes(num_qo_heads=num_qo_heads, num_kv_heads=num_kv_heads, head_dim_qk=head_dim_qk)
        batch = Batch(offsets_on_host("qo_indptr", qo_indptr), offsets_on_host("kv_indptr", kv_indptr))
        if len(batch.kv_indptr) != len(batch.qo_indptr):
            raise SpecError(f"has {len(batch.kv_indptr)} entries; allowed: {len(batch.qo_indptr)}, as qo_indptr", where="kv_indptr")
        batch.items = item_rows(batch, 0, prefix_len_ptr, token_pos_in_items_ptr, token_pos_in_items_len, max_item_len_ptr)
        check_lens("seq_lens", seq_lens, batch.kv_indptr.diff())
        check_lens("seq_lens_q", seq_lens_q, batch.qo_indptr.diff())
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
            self._check_graph(len(batch.qo_indptr) - 1, batch.rows, None, None)
            self._write(self._qo_indptr_buf, qo_indptr, non_blocking)
            self._write(self._kv_indptr_buf, kv_indptr, non_blocking)
        else:
            self._qo_indptr_buf = qo_indptr.to(self.device, non_blocking=non_blocking)
            self._kv_indptr_buf = kv_indptr.to(self.device, non_blocking=non_blocking)
        mask_bits = self._mask(batch, 0, custom_mask, packed_custom_mask, non_blocking)
        self._set_options(pos_encoding_mode, window_left, logits_soft_cap, sm_scale, rope_scale, rope_theta)
        self._causal = causal
        self._begin(shape, batch, mask_bits)

    begin_forward = plan

    @all_or_nothing
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
        """`run` with options of its own; of an older interface.

        Parameters, results and errors are those of `run` and `plan`, whose options they replace.
        """
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
        """Runs what was planned.

        Parameters
        ----------
        q : Tensor, [rows, num_qo_heads, head_dim_qk]
        k, v : Tensor, [keys, num_kv_heads, dim]
            With HND the heads come first.
        *args
            Of q, k and v of 8 bits: scales of heads.
        q_scale, k_scale, v_scale, o_scale : float, optional
            Factors of what tensors hold; the result is divided by the last.
        out, lse : Tensor, optional
            Where results go; of the results' types and shapes.
        return_lse : bool
        enable_pdl : optional
            A hint, which changes no result.
        kv_cache_sf : None

        Returns
        -------
        o : Tensor, [rows, num_qo_heads, head_dim_vo]
        lse : f32 Tensor, [rows, num_qo_heads], base 2
            With `return_lse`.

        Raises
        ------
        SpecError
            Tensors that are not those of the plan.
        """
        refuse_given(kv_cache_sf=kv_cache_sf)
        check_tensors(self.device, q=q, k=k, v=v)
        if self._kv_layout == "HND" and k.dim() == v.dim() == 3:
            k, v = k.transpose(0, 1), v.transpose(0, 1)
        factors = scaled(q_scale, k_scale, v_scale)
        if o_scale is not None:
            factors = Factors(factors.scores, factors.values / read_positive("o_scale", scalar("o_scale", o_scale)))
        return self._attend(*(q, k, v), factors=factors, out=out, lse=lse, return_lse=return_lse, head_scales=args)

    @all_or_nothing
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
        """`forward`, with the log-sum-exp.

        Parameters and errors are those of `forward`.

        Returns
        -------
        o, lse : Tensor
            As of `run`.
        """
        self._causal = causal
        self._set_options(pos_encoding_mode, window_left, logits_soft_cap, sm_scale, rope_scale, rope_theta)
        result: tuple[torch.Tensor, torch.Tensor] = self.run(q, k, v, return_lse=True)
        return result

    run_return_lse = functools.partialmethod(run, return_lse=True)
