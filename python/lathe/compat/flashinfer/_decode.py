"""The wrapper of decoding over pages; `decode` holds its name."""

from __future__ import annotations

import copy
import functools
import warnings
from typing import Any

import torch

from lathe.compat.flashinfer._all_or_nothing import all_or_nothing
from lathe.compat.flashinfer._arguments import (
    DTypeLike,
    PagedKv,
    Unsupported,
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
from lathe.compat.flashinfer._kernels import split_tokens
from lathe.compat.flashinfer._wrapper import Shape, Wrapper, scaled
from lathe.compat.flashinfer.page import get_seq_lens
from lathe.errors import SpecError

# What plan() once took by position, after page_size.
_ONCE_POSITIONAL = (
    *("pos_encoding_mode", "window_left", "logits_soft_cap", "q_data_type", "kv_data_type", "o_data_type", "data_type", "sm_scale"),
    *("rope_scale", "rope_theta", "non_blocking", "block_tables", "seq_lens", "fixed_split_size", "disable_split_kv"),
    "q_len_per_req",
)


class BatchDecodeWithPagedKVCacheWrapper(Wrapper):
    """Decoding of a batch over pages: plan a step, then run each layer.

    Results are those of FlashInfer; workspaces that are given are not used. With `use_cuda_graph` the buffers that are given hold
    what is planned, and runs may be captured once and replayed after each plan.

    Parameters
    ----------
    float_workspace_buffer : Tensor
        Says on which device the wrapper runs; at an address of whole 16 bytes, else not used.
    kv_layout : {"NHD", "HND"}
        Tokens before heads, or heads before tokens.
    use_cuda_graph : bool
    use_tensor_cores : bool
        Allows several rows of a request, and splits of given sizes; kernels are the same.
    paged_kv_indptr_buffer, paged_kv_last_page_len_buffer : i32 Tensor, optional
        With `use_cuda_graph`: [batch + 1], [batch].
    paged_kv_indices_buffer : i32 Tensor, optional
        With `use_cuda_graph`: as many entries as a batch may have.
    backend : str
        A hint: names of FlashInfer's kernels but cudnn.
    jit_args : None

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
        use_tensor_cores: bool = False,
        paged_kv_indptr_buffer: torch.Tensor | None = None,
        paged_kv_indices_buffer: torch.Tensor | None = None,
        paged_kv_last_page_len_buffer: torch.Tensor | None = None,
        backend: str = "auto",
        jit_args: list[Any] | None = None,
    ) -> None:
        super().__init__(float_workspace_buffer, kv_layout, use_cuda_graph, backend)
        refuse_given(jit_args=jit_args)
        self._use_tensor_cores = use_tensor_cores or backend in ("trtllm-gen", "cute-dsl")
        self._q_len_per_req: int | None = None
        self._paged_kv_indptr_buf = paged_kv_indptr_buffer
        self._paged_kv_indices_buf = paged_kv_indices_buffer
        self._paged_kv_last_page_len_buf = paged_kv_last_page_len_buffer
        if use_cuda_graph:
            why = "where use_cuda_graph is True"
            indptr = check_index_buffer("paged_kv_indptr_buffer", paged_kv_indptr_buffer, why, self.device)
            check_index_buffer("paged_kv_indices_buffer", paged_kv_indices_buffer, why, self.device)
            last = check_index_buffer("paged_kv_last_page_len_buffer", paged_kv_last_page_len_buffer, why, self.device)
            self._fixed_batch_size = len(last)
            if len(indptr) != self._fixed_batch_size + 1:
                raise SpecError(
                    f"has {len(indptr)} entries; allowed: {self._fixed_batch_size + 1}, one more than the batch",
                    where="paged_kv_indptr_buffer",
                )

    @property
    def use_tensor_cores(self) -> bool:
        """Whether several tokens of a request, and splits of given sizes, may be planned; kernels are the same."""
        return self._use_tensor_cores

    def workspace_size(
        self,
        indptr: torch.Tensor,
        indices: torch.Tensor,
        last_page_len: torch.Tensor,
        num_qo_heads: int,
        num_kv_heads: int,
        head_dim: int,
        page_size: int,
        pos_encoding_mode: str = "NONE",
        window_left: int = -1,
        logits_soft_cap: float | None = None,
        q_data_type: DTypeLike | None = "float16",
        kv_data_type: DTypeLike | None = None,
        o_data_type: DTypeLike | None = None,
        data_type: DTypeLike | None = None,
        sm_scale: float | None = None,
        rope_scale: float | None = None,
        rope_theta: float | None = None,
        block_tables: torch.Tensor | None = None,
        seq_lens: torch.Tensor | None = None,
        fixed_split_size: int | None = None,
        disable_split_kv: bool = False,
        q_len_per_req: int = 1,
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
        probe._plan_impl(**given)
        return probe._sizes()

    def plan(
        self,
        indptr: torch.Tensor,
        indices: torch.Tensor,
        last_page_len: torch.Tensor,
        num_qo_heads: int,
        num_kv_heads: int,
        head_dim: int,
        page_size: int,
        *deprecated_positional_args: Any,
        **kwargs: Any,
    ) -> None:
        """Plans a batch.

        Parameters that are not listed here are those of `BatchPrefillWithPagedKVCacheWrapper.plan`.

        Parameters
        ----------
        indptr : whole numbers, [batch + 1]
            Where the entries of `indices` begin.
        indices : whole numbers
            Page ids.
        last_page_len : whole numbers, [batch]
            Tokens in the last page of each request.
        num_qo_heads, num_kv_heads, head_dim, page_size : int
        *deprecated_positional_args
            Of `kwargs`, in the order in which plan() once took them; with a DeprecationWarning.
        **kwargs
            Options of that plan, by name, but for masks and what says again how many rows there are; and these:
        data_type : torch.dtype or str, optional
            Of q and of the cache, where their own types are None.
        q_len_per_req : int
            Rows of each request, which see up to their own place; 1 when left out.
        window_right : int
            0.

        Raises
        ------
        SpecError
            What is wrong by itself or beside the rest; `Unsupported` where FlashInfer takes it. The wrapper is as before.
        """
        if deprecated_positional_args:
            if len(deprecated_positional_args) > len(_ONCE_POSITIONAL):
                raise TypeError(f"plan() takes at most {len(_ONCE_POSITIONAL)} positional arguments after page_size")
            for name, value in zip(_ONCE_POSITIONAL, deprecated_positional_args, strict=False):
                if name in kwargs:
                    raise TypeError(f"plan() got two values for {name}")
                kwargs[name] = value
            warnings.warn("arguments of plan() after page_size go by keyword", DeprecationWarning, stacklevel=2)
        self._plan_impl(indptr, indices, last_page_len, num_qo_heads, num_kv_heads, head_dim, page_size, **kwargs)

    begin_forward = plan

    @all_or_nothing
    def _plan_impl(
        self,
        indptr: torch.Tensor,
        indices: torch.Tensor,
        last_page_len: torch.Tensor,
        num_qo_heads: int,
        num_kv_heads: int,
        head_dim: int,
        page_size: int,
        *,
        pos_encoding_mode: str = "NONE",
        window_left: int = -1,
        window_right: int = 0,
        logits_soft_cap: float | None = None,
        q_data_type: DTypeLike | None = "float16",
        kv_data_type: DTypeLike | None = None,
        o_data_type: DTypeLike | None = None,
        data_type: DTypeLike | None = None,
        sm_scale: float | None = None,
        rope_scale: float | None = None,
        rope_theta: float | None = None,
        non_blocking: bool = True,
        block_tables: torch.Tensor | None = None,
        seq_lens: torch.Tensor | None = None,
        fixed_split_size: int | None = None,
        disable_split_kv: bool = False,
        q_len_per_req: int = 1,
    ) -> None:
        if window_right != 0:
            raise Unsupported(f"is {window_right}; allowed: 0", where="window_right")
        check_sizes(num_qo_heads=num_qo_heads, num_kv_heads=num_kv_heads, head_dim=head_dim, page_size=page_size)
        lens = on_host("last_page_len", last_page_len)
        host = Batch(self._rows_of(len(lens), q_len_per_req), offsets_on_host("indptr", indptr), lens)
        self._check_lens(host, page_size, q_len_per_req, seq_lens)
        if fixed_split_size is not None and not self._use_tensor_cores:
            raise SpecError(f"is {fixed_split_size}; allowed: None, or use_tensor_cores=True", where="fixed_split_size")
        q_dtype = dtype_of("q_data_type", q_data_type, dtype_of("data_type", data_type, torch.float16))
        kv_dtype = dtype_of("kv_data_type", kv_data_type, dtype_of("data_type", data_type, q_dtype))
        shape = Shape(
            *(num_qo_heads, num_kv_heads, head_dim, head_dim, page_size, q_dtype, kv_dtype),
            o_dtype=dtype_of("o_data_type", o_data_type, q_dtype),
            split_tokens=split_tokens(fixed_split_size, disable_split_kv, page_size),
        )
        indices = page_ids("indices", indices, host.kv_indptr)
        if self._use_cuda_graph:
            self._check_graph(len(last_page_len), host.rows, len(indices), self._paged_kv_indices_buf)
            self._write(self._paged_kv_indptr_buf, indptr, non_blocking)
            self._write(self._paged_kv_last_page_len_buf, last_page_len, non_blocking)
            self._write(self._paged_kv_indices_buf, indices, non_blocking)
        else:
            self._paged_kv_indptr_buf = indptr.to(self.device, non_blocking=non_blocking)
            self._paged_kv_indices_buf = indices.to(self.device, non_blocking=non_blocking).contiguous()
            self._paged_kv_last_page_len_buf = last_page_len.to(self.device, non_blocking=non_blocking)
        self._set_options(pos_encoding_mode, window_left, logits_soft_cap, sm_scale, rope_scale, rope_theta)
        self._window_right = window_right
        self._finish_plan(shape, host, q_len_per_req)

    def _rows_of(self, batch_size: int, q_len_per_req: int) -> torch.Tensor:
        check_sizes(q_len_per_req=q_len_per_req)
        if q_len_per_req > 1 and not self._use_tensor_cores:
            raise SpecError(f"is {q_len_per_req}; allowed: 1, and more with use_tensor_cores=True", where="q_len_per_req")
        if self._use_cuda_graph and self._q_len_per_req not in (None, q_len_per_req):
            raise SpecError(f"is {q_len_per_req}; allowed: {self._q_len_per_req}, fixed by the graph", where="q_len_per_req")
        return torch.arange(batch_size + 1, dtype=torch.int32, device="cpu") * q_len_per_req

    @staticmethod
    def _check_lens(host: Batch, page_size: int, q_len_per_req: int, seq_lens: torch.Tensor | None) -> None:
        assert host.last_page_len is not None
        if len(host.kv_indptr) != len(host.last_page_len) + 1:
            raise SpecError(
                f"has {len(host.kv_indptr)} entries; allowed: {len(host.last_page_len) + 1}, one more than last_page_len",
                where="indptr",
            )
        lens = get_seq_lens(host.kv_indptr, host.last_page_len, page_size)
        check_lens("seq_lens", seq_lens, lens)
        if q_len_per_req > 1 and len(lens) and int(lens.min()) < q_len_per_req:
            raise SpecError(
                f"is {q_len_per_req}, a request has {int(lens.min())} keys; allowed: at most that", where="q_len_per_req"
            )

    def _finish_plan(self, shape: Shape, host: Batch, q_len_per_req: int) -> None:
        host.kv_indices = self._paged_kv_indices_buf
        self._q_len_per_req = q_len_per_req
        # Rows of one request see up to their own place; a single row sees all.
        self._causal = q_len_per_req > 1
        self._begin(shape, host)

    @all_or_nothing
    def forward(
        self,
        q: torch.Tensor,
        paged_kv_cache: PagedKv,
        pos_encoding_mode: str = "NONE",
        q_scale: float | None = None,
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
        self._set_options(pos_encoding_mode, window_left, logits_soft_cap, sm_scale, rope_scale, rope_theta)
        result: torch.Tensor = self.run(q, paged_kv_cache, q_scale=q_scale, k_scale=k_scale, v_scale=v_scale)
        return result

    def run(
        self,
        q: torch.Tensor,
        paged_kv_cache: PagedKv,
        *args: Any,
        q_scale: float | None = None,
        k_scale: float | None = None,
        v_scale: float | None = None,
        out: torch.Tensor | None = None,
        lse: torch.Tensor | None = None,
        return_lse: bool = False,
        enable_pdl: bool | None = None,
        window_left: int | None = None,
        sinks: torch.Tensor | None = None,
        q_len_per_req: int | None = None,
        skip_softmax_threshold_scale_factor: float | None = None,
        kv_cache_sf: PagedKv | None = None,
    ) -> Any:
        """Runs what was planned.

        Parameters that are not listed here are those of `BatchPrefillWithPagedKVCacheWrapper.run`.

        Parameters
        ----------
        q : Tensor, [batch * q_len_per_req, num_qo_heads, head_dim]
        q_len_per_req : int, optional
            As planned.

        Returns
        -------
        o : Tensor, [batch * q_len_per_req, num_qo_heads, head_dim]
        lse : f32 Tensor, [batch * q_len_per_req, num_qo_heads], base 2
            With `return_lse`.

        Raises
        ------
        SpecError
            Tensors that are not those of the plan.
        """
        refuse_given(skip_softmax_threshold_scale_factor=skip_softmax_threshold_scale_factor, kv_cache_sf=kv_cache_sf)
        if q_len_per_req is not None and q_len_per_req != self._q_len_per_req:
            raise SpecError(f"is {q_len_per_req}; allowed: {self._q_len_per_req}, as planned", where="q_len_per_req")
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
        pos_encoding_mode: str = "NONE",
        q_scale: float | None = None,
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
        self._set_options(pos_encoding_mode, window_left, logits_soft_cap, sm_scale, rope_scale, rope_theta)
        result: tuple[torch.Tensor, torch.Tensor] = self.run(
            q, paged_kv_cache, q_scale=q_scale, k_scale=k_scale, v_scale=v_scale, return_lse=True
        )
        return result

    run_return_lse = functools.partialmethod(run, return_lse=True)
