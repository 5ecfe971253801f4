"""One new token, or a few, for each request."""

from __future__ import annotations

import torch

from lathe.compat.flashinfer._all_or_nothing import all_or_nothing
from lathe.compat.flashinfer._arguments import (
    DTypeLike,
    check_sizes,
    check_tensors,
    dtype_of,
    number,
    offsets_on_host,
    on_host,
    page_ids,
)
from lathe.compat.flashinfer._batches import Batch
from lathe.compat.flashinfer._decode import BatchDecodeWithPagedKVCacheWrapper
from lathe.compat.flashinfer._kernels import split_tokens
from lathe.compat.flashinfer._wrapper import Shape, scaled
from lathe.compat.flashinfer.prefill import single_prefill_with_kv_cache
from lathe.errors import SpecError

__all__ = [
    "BatchDecodeWithPagedKVCacheWrapper",
    "CUDAGraphBatchDecodeWithPagedKVCacheWrapper",
    "fast_decode_plan",
    "single_decode_with_kv_cache",
]


def single_decode_with_kv_cache(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    kv_layout: str = "NHD",
    pos_encoding_mode: str = "NONE",
    use_tensor_cores: bool = False,
    q_scale: float | None = None,
    k_scale: float | None = None,
    v_scale: float | None = None,
    window_left: int = -1,
    logits_soft_cap: float | None = None,
    sm_scale: float | None = None,
    rope_scale: float | None = None,
    rope_theta: float | None = None,
    return_lse: bool = False,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """Attention of one row.

    Parameters that are not listed here, and errors, are those of `single_prefill_with_kv_cache`.

    Parameters
    ----------
    q : Tensor, [num_qo_heads, head_dim]
    use_tensor_cores : bool
        A hint, which changes no result.
    q_scale : float, optional
        Factor of what q holds.

    Returns
    -------
    o : Tensor, [num_qo_heads, head_dim]
    lse : f32 Tensor, [num_qo_heads], base 2
        With `return_lse`.
    """
    check_tensors(q=q)
    if q.dim() != 2:
        raise SpecError(f"has the shape {list(q.shape)}; allowed: [heads, dim]", where="q")
    scale = number("sm_scale", sm_scale) if sm_scale is not None else q.shape[-1] ** -0.5
    o, lse = single_prefill_with_kv_cache(
        *(q.unsqueeze(0), k, v),
        kv_layout=kv_layout,
        pos_encoding_mode=pos_encoding_mode,
        sm_scale=scale * scaled(q_scale, None, None).scores,
        window_left=window_left,
        logits_soft_cap=logits_soft_cap,
        rope_scale=rope_scale,
        rope_theta=rope_theta,
        return_lse=True,
        k_scale=k_scale,
        v_scale=v_scale,
    )
    return (o.squeeze(0), lse.squeeze(0)) if return_lse else o.squeeze(0)


class CUDAGraphBatchDecodeWithPagedKVCacheWrapper(BatchDecodeWithPagedKVCacheWrapper):
    """A wrapper for captured graphs, by its buffers.

    Parameters
    ----------
    workspace_buffer : Tensor
        Says on which device the wrapper runs; else not used.
    indptr_buffer, last_page_len_buffer : i32 Tensor, [batch + 1], [batch]
    indices_buffer : i32 Tensor
        As many entries as a batch may have.
    kv_layout : {"NHD", "HND"}
        Tokens before heads, or heads before tokens.
    use_tensor_cores : bool
        As in `BatchDecodeWithPagedKVCacheWrapper`.

    Raises
    ------
    SpecError
        Buffers of other sizes or types.
    """

    def __init__(
        self,
        workspace_buffer: torch.Tensor,
        indptr_buffer: torch.Tensor,
        indices_buffer: torch.Tensor,
        last_page_len_buffer: torch.Tensor,
        kv_layout: str = "NHD",
        use_tensor_cores: bool = False,
    ) -> None:
        super().__init__(
            *(workspace_buffer, kv_layout, True, use_tensor_cores),
            paged_kv_indptr_buffer=indptr_buffer,
            paged_kv_indices_buffer=indices_buffer,
            paged_kv_last_page_len_buffer=last_page_len_buffer,
        )


@all_or_nothing
def fast_decode_plan(
    self: BatchDecodeWithPagedKVCacheWrapper,
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
    q_data_type: DTypeLike | None = None,
    kv_data_type: DTypeLike | None = None,
    data_type: DTypeLike | None = None,
    sm_scale: float | None = None,
    rope_scale: float | None = None,
    rope_theta: float | None = None,
    non_blocking: bool = True,
    fixed_split_size: int | None = None,
    disable_split_kv: bool = False,
    q_len_per_req: int = 1,
    global_override_indptr_cpu: torch.Tensor | None = None,
) -> None:
    """`plan` of a wrapper that was planned before, without copies: in a graph, its buffers hold the pages already.

    Parameters that are not listed here are those of `BatchDecodeWithPagedKVCacheWrapper.plan`. Results keep the type that was
    planned first.

    Parameters
    ----------
    global_override_indptr_cpu : whole numbers, [batch + 1], optional
        `indptr` on the host.

    Raises
    ------
    SpecError
        As of `plan`; a wrapper that was not planned before.

    Notes
    -----
    Waits for nothing where lengths are on the host (`global_override_indptr_cpu`, and `last_page_len` unless pages hold one token).
    """
    if not isinstance(self, BatchDecodeWithPagedKVCacheWrapper):
        raise SpecError(f"is a {type(self).__name__}; allowed: a BatchDecodeWithPagedKVCacheWrapper", where="self")
    if self._shape is None:
        raise SpecError("was not called before; allowed: one plan() in full first", where="plan")
    q_dtype = dtype_of("q_data_type", q_data_type, dtype_of("data_type", data_type, torch.float16))
    kv_dtype = dtype_of("kv_data_type", kv_data_type, dtype_of("data_type", data_type, q_dtype))
    check_sizes(num_qo_heads=num_qo_heads, num_kv_heads=num_kv_heads, head_dim=head_dim, page_size=page_size)
    check_tensors(indptr=indptr)
    check_tensors(last_page_len=last_page_len)
    batch_size = len(last_page_len)
    given = indptr if global_override_indptr_cpu is None else global_override_indptr_cpu
    host = Batch(
        qo_indptr=self._rows_of(batch_size, q_len_per_req),
        kv_indptr=offsets_on_host("indptr" if given is indptr else "global_override_indptr_cpu", given),
        last_page_len=(
            torch.ones(batch_size, dtype=torch.int32, device="cpu") if page_size == 1 else on_host("last_page_len", last_page_len)
        ),
    )
    self._check_lens(host, page_size, q_len_per_req, None)
    indices = page_ids("indices", indices, host.kv_indptr)
    check_tensors(self.device, indices=indices)
    if self._use_cuda_graph:
        self._check_graph(batch_size, host.rows, len(indices), self._paged_kv_indices_buf)
    else:
        self._paged_kv_indptr_buf = indptr
        self._paged_kv_indices_buf = indices.contiguous()
        self._paged_kv_last_page_len_buf = last_page_len
    shape = Shape(
        *(num_qo_heads, num_kv_heads, head_dim, head_dim, page_size, q_dtype, kv_dtype),
        o_dtype=self._shape.o_dtype,
        split_tokens=split_tokens(fixed_split_size, disable_split_kv, page_size),
    )
    self._set_options(pos_encoding_mode, window_left, logits_soft_cap, sm_scale, rope_scale, rope_theta)
    self._finish_plan(shape, host, q_len_per_req)
