"""The wrapper of prefill over pages; `prefill` holds its name."""

from __future__ import annotations

import copy
import functools
from typing import Any

import torch

from lathe.compat.flashinfer._all_or_nothing import all_or_nothing
from lathe.compat.flashinfer._arguments import (
    DTypeLike,
    PagedKv,
    check_index_buffer,
    check_lens,
    check_sizes,
    dtype_of,
    offsets_on_host,
    on_host,
    page_ids,
    refuse_given,
    unpack,
)
from lathe.compat.flashinfer._batches import Batch
from lathe.compat.flashinfer._items import item_rows
from lathe.compat.flashinfer._kernels import split_tokens
from lathe.compat.flashinfer._masked import MaskedWrapper
from lathe.compat.flashinfer._wrapper import Shape, scaled
from lathe.compat.flashinfer.page import get_seq_lens
from lathe.errors import SpecError


class BatchPrefillWithPagedKVCacheWrapper(MaskedWrapper):
    """Prefill, and steps that mix it with decoding, over pages.

    Results are those of FlashInfer; workspaces that are given are not used. With `use_cuda_graph` the buffers that are given hold
    what is planned, and runs may be captured once and replayed after each plan, none with more rows than the first.

    Parameters
    ----------
    float_workspace_buffer : Tensor
        Says on which device the wrapper runs; at an address of whole 16 bytes, else not used.
    kv_layout : {"NHD", "HND"}
        Tokens before heads, or heads before tokens.
    use_cuda_graph : bool
    qo_indptr_buf, paged_kv_indptr_buf, paged_kv_last_page_len_buf : i32 Tensor, optional
        With `use_cuda_graph`: [batch + 1], [batch + 1], [batch].
    paged_kv_indices_buf : i32 Tensor, optional
        With `use_cuda_graph`: as many entries as a batch may have.
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
        paged_kv_indptr_buf: torch.Tensor | None = None,
        paged_kv_indices_buf: torch.Tensor | None = None,
        paged_kv_last_page_len_buf: torch.Tensor | None = None,
        custom_mask_buf: torch.Tensor | None = None,
        mask_indptr_buf: torch.Tensor | None = None,
        backend: str = "auto",
        jit_args: list[Any] | None = None,
        jit_kwargs: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(float_workspace_buffer, kv_layout, use_cuda_graph, backend)
        refuse_given(jit_args=jit_args, jit_kwargs=jit_kwargs)
        self._qo_indptr_buf, self._paged_kv_indptr_buf = qo_indptr_buf, paged_kv_indptr_buf
        self._paged_kv_indices_buf, self._paged_kv_last_page_len_buf = paged_kv_indices_buf, paged_kv_last_page_len_buf
        if use_cuda_graph:
            why = "where use_cuda_graph is True"
            self._custom_mask_buf, self._mask_indptr_buf = custom_mask_buf, mask_indptr_buf
            self._fixed_batch_size = len(check_index_buffer("qo_indptr_buf", qo_indptr_buf, why, self.device)) - 1
            indptr = check_index_buffer("paged_kv_indptr_buf", paged_kv_indptr_buf, why, self.device)
            check_index_buffer("paged_kv_indices_buf", paged_kv_indices_buf, why, self.device)
            last = check_index_buffer("paged_kv_last_page_len_buf", paged_kv_last_page_len_buf, why, self.device)
            for name, x, needed in (
                ("paged_kv_indptr_buf", indptr, self._fixed_batch_size + 1),
                ("paged_kv_last_page_len_buf", last, self._fixed_batch_size),
            ):
                if len(x) != needed:
                    raise SpecError(f"has {len(x)} entries; allowed: {needed}, by qo_indptr_buf", where=name)

    def workspace_size(
        self,
        qo_indptr: torch.Tensor,
        paged_kv_indptr: torch.Tensor,
        paged_kv_indices: torch.Tensor,
        paged_kv_last_page_len: torch.Tensor,
        num_qo_heads: int,
        num_kv_heads: int,
        head_dim_qk: int,
        page_size: int,
        head_dim_vo: int | None = None,
        custom_mask: torch.Tensor | None = None,
        packed_custom_mask: torch.Tensor | None = None,
        causal: bool = False,
        pos_encoding_mode: str = "NONE",
        use_fp16_qk_reduction: bool = False,
        sm_scale: float | None = None,
        window_left: int = -1,
        logits_soft_cap: float | None = None,
        rope_scale: float | None = None,
        rope_theta: float | None = None,
        q_data_type: DTypeLike = "float16",
        kv_data_type: DTypeLike | None = None,
        o_data_type: DTypeLike | None = None,
        prefix_len_ptr: torch.Tensor | None = None,
        token_pos_in_items_ptr: torch.Tensor | None = None,
        token_pos_in_items_len: int = 0,
        max_item_len_ptr: torch.Tensor | None = None,
        seq_lens: torch.Tensor | None = None,
        seq_lens_q: torch.Tensor | None = None,
        block_tables: torch.Tensor | None = None,
        max_token_per_sequence: int | None = None,
        max_sequence_kv: int | None = None,
        fixed_split_size: int | None = None,
        disable_split_kv: bool = False,
    ) -> tuple[int, int]:
        """Bytes that Lathe takes for such a batch, by itself: of workspace, and of scratch memory to plan in.

        Parameters and errors are those of `plan`.

        Returns
        -------
        int, int
        """
        given = {name: value for name, value in locals().items() if name != "self"}
        probe = copy.copy(self)
        probe._use_cuda_graph = False
        probe.plan(**given)
        return probe._sizes()

    @all_or_nothing
    def plan(
        self,
        qo_indptr: torch.Tensor,
        paged_kv_indptr: torch.Tensor,
        paged_kv_indices: torch.Tensor,
        paged_kv_last_page_len: torch.Tensor,
        num_qo_heads: int,
        num_kv_heads: int,
        head_dim_qk: int,
        page_size: int,
        head_dim_vo: int | None = None,
        custom_mask: torch.Tensor | None = None,
        packed_custom_mask: torch.Tensor | None = None,
        causal: bool = False,
        pos_encoding_mode: str = "NONE",
        use_fp16_qk_reduction: bool = False,
        sm_scale: float | None = None,
        window_left: int = -1,
        logits_soft_cap: float | None = None,
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
        seq_lens: torch.Tensor | None = None,
        seq_lens_q: torch.Tensor | None = None,
        block_tables: torch.Tensor | None = None,
        max_token_per_sequence: int | None = None,
        max_sequence_kv: int | None = None,
        fixed_split_size: int | None = None,
        disable_split_kv: bool = False,
    ) -> None:
        """Plans a batch.

        Parameters
        ----------
        qo_indptr, paged_kv_indptr : whole numbers, [batch + 1]
            Where the rows of q, and the entries of `paged_kv_indices`, begin.
        paged_kv_indices : whole numbers
            Page ids.
        paged_kv_last_page_len : whole numbers, [batch]
            Tokens in the last page of each request.
        num_qo_heads, num_kv_heads, head_dim_qk, page_size, head_dim_vo : int
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
            How keys are split over blocks: in pages, or in tokens where there are none.
        prefix_len_ptr : whole numbers, [batch], optional
            For scoring many items at once: keys of a request that all its items see. Takes the place of `causal`.
        token_pos_in_items_ptr, token_pos_in_items_len : whole numbers, int
            Places in their items of the keys behind the prefix, 0 for a delimiter; entries of one request to the next.
        max_item_len_ptr : whole numbers, [batch]
            The largest of a request's places, or more.
        seq_lens, seq_lens_q : whole numbers, [batch], optional
            Keys and rows of each request said again; they must agree.
        use_fp16_qk_reduction, non_blocking, block_tables, max_token_per_sequence, max_sequence_kv : optional
            Hints, which change no result.

        Raises
        ------
        SpecError
            What is wrong by itself or beside the rest; `Unsupported` where FlashInfer takes it. The wrapper is as before.
        """
        check_sizes(num_qo_heads=num_qo_heads, num_kv_heads=num_kv_heads, head_dim_qk=head_dim_qk, page_size=page_size)
        batch = Batch(
            qo_indptr=offsets_on_host("qo_indptr", qo_indptr),
            kv_indptr=offsets_on_host("paged_kv_indptr", paged_kv_indptr),
            last_page_len=on_host("paged_kv_last_page_len", paged_kv_last_page_len),
        )
        assert batch.last_page_len is not None
        arrays = (batch.qo_indptr, batch.kv_indptr, batch.last_page_len)
        if not len(arrays[0]) == len(arrays[1]) == len(arrays[2]) + 1:
            raise SpecError(
                f"have {', '.join(str(len(x)) for x in arrays)} entries; allowed: n + 1, n + 1, n",
                where="qo_indptr, paged_kv_indptr and paged_kv_last_page_len",
            )
        lens = get_seq_lens(batch.kv_indptr, batch.last_page_len, page_size)
        check_lens("seq_lens", seq_lens, lens)
        check_lens("seq_lens_q", seq_lens_q, batch.qo_indptr.diff())
        batch.items = item_rows(batch, page_size, prefix_len_ptr, token_pos_in_items_ptr, token_pos_in_items_len, max_item_len_ptr)
        q_dtype = dtype_of("q_data_type", q_data_type)
        shape = Shape(
            *(num_qo_heads, num_kv_heads, head_dim_qk, head_dim_vo or head_dim_qk, page_size, q_dtype),
            kv_dtype=dtype_of("kv_data_type", kv_data_type, q_dtype),
            o_dtype=dtype_of("o_data_type", o_data_type, q_dtype),
            split_tokens=split_tokens(fixed_split_size, disable_split_kv, page_size),
        )
        paged_kv_indices = page_ids("paged_kv_indices", paged_kv_indices, batch.kv_indptr)
        if self._use_cuda_graph:
            self._check_graph(len(lens), batch.rows, len(paged_kv_indices), self._paged_kv_indices_buf)
            self._write(self._qo_indptr_buf, qo_indptr, non_blocking)
            self._write(self._paged_kv_indptr_buf, paged_kv_indptr, non_blocking)
            self._write(self._paged_kv_last_page_len_buf, paged_kv_last_page_len, non_blocking)
            self._write(self._paged_kv_indices_buf, paged_kv_indices, non_blocking)
        else:
            self._qo_indptr_buf = qo_indptr.to(self.device, non_blocking=non_blocking)
            self._paged_kv_indptr_buf = paged_kv_indptr.to(self.device, non_blocking=non_blocking)
            self._paged_kv_indices_buf = paged_kv_indices.to(self.device, non_blocking=non_blocking).contiguous()
            self._paged_kv_last_page_len_buf = paged_kv_last_page_len.to(self.device, non_blocking=non_blocking)
        batch.kv_indices = self._paged_kv_indices_buf
        mask_bits = self._mask(batch, page_size, custom_mask, packed_custom_mask, non_blocking)
        self._set_options(pos_encoding_mode, window_left, logits_soft_cap, sm_scale, rope_scale, rope_theta)
        self._causal = causal
        self._begin(shape, batch, mask_bits)

    begin_forward = plan

    @all_or_nothing
    def forward(
        self,
        q: torch.Tensor,
        paged_kv_cache: PagedKv,
        causal: bool = False,
        pos_encoding_mode: str = "NONE",
        use_fp16_qk_reduction: bool = False,
        k_scale: float | None = None,
        v_scale: float | None = None,
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
        result: torch.Tensor = self.run(q, paged_kv_cache, k_scale=k_scale, v_scale=v_scale)
        return result

    def run(
        self,
        q: torch.Tensor,
        paged_kv_cache: PagedKv,
        *args: Any,
        q_scale: float | torch.Tensor | None = None,
        k_scale: float | torch.Tensor | None = None,
        v_scale: float | torch.Tensor | None = None,
        out: torch.Tensor | None = None,
        lse: torch.Tensor | None = None,
        return_lse: bool = False,
        enable_pdl: bool | None = None,
        window_left: int | None = None,
        sinks: torch.Tensor | None = None,
        kv_cache_sf: PagedKv | None = None,
        skip_softmax_threshold_scale_factor: float | None = None,
        use_fp16_softmax: bool | None = None,
        uses_spcompress: bool | None = None,
    ) -> Any:
        """Runs what was planned.

        Parameters
        ----------
        q : Tensor, [rows, num_qo_heads, head_dim]
        paged_kv_cache : Tensor or tuple of two
            [pages, 2, page_size, num_kv_heads, head_dim]; with HND heads are before tokens, and two tensors have no 2.
        *args
            Of q, k and v of 8 bits: scales of heads.
        q_scale, k_scale, v_scale : float or Tensor of one element, optional
            Factors of what tensors hold.
        out, lse : Tensor, optional
            Where results go; of the results' types and shapes.
        return_lse : bool
        window_left : int, optional
            In place of the plan's.
        sinks : floating-point Tensor, [num_qo_heads], optional
            One more logit of each head, which has no value, as in gpt-oss; the log-sum-exp counts it.
        enable_pdl, use_fp16_softmax : optional
            Hints, which change no result.
        kv_cache_sf, skip_softmax_threshold_scale_factor, uses_spcompress : None

        Returns
        -------
        o : Tensor, [rows, num_qo_heads, head_dim]
        lse : f32 Tensor, [rows, num_qo_heads], base 2
            With `return_lse`.

        Raises
        ------
        SpecError
            Tensors that are not those of the plan.
        """
        refuse_given(
            kv_cache_sf=kv_cache_sf,
            skip_softmax_threshold_scale_factor=skip_softmax_threshold_scale_factor,
            uses_spcompress=uses_spcompress or None,
        )
        k, v = unpack(paged_kv_cache, self._kv_layout)
        return self._attend(
            *(q, k, v),
            factors=scaled(q_scale, k_scale, v_scale),
            out=out,
            lse=lse,
            return_lse=return_lse,
            window_left=window_left,
            sinks=sinks,
            head_scales=args,
        )

    @all_or_nothing
    def forward_return_lse(
        self,
        q: torch.Tensor,
        paged_kv_cache: PagedKv,
        causal: bool = False,
        pos_encoding_mode: str = "NONE",
        use_fp16_qk_reduction: bool = False,
        k_scale: float | None = None,
        v_scale: float | None = None,
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
        result: tuple[torch.Tensor, torch.Tensor] = self.run(q, paged_kv_cache, k_scale=k_scale, v_scale=v_scale, return_lse=True)
        return result

    run_return_lse = functools.partialmethod(run, return_lse=True)
