"""PyTorch operators: ``torch.ops.lathe``, and what is convenient around them.

Importing this module loads the operators. They take tensors of the CPU, where the host executor runs them, and of GPUs, where
they run on the current stream. A kernel is named by its spec as JSON text, so graphs that hold calls can be saved and loaded
elsewhere. There are no gradients.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lathe import _lathe
from lathe._arguments import check_order, read_params, read_positive, refuse_unread
from lathe._attention import traced
from lathe.errors import SpecError, UnavailableError

try:
    import torch
except ImportError as error:
    raise UnavailableError("PyTorch is not installed", where="lathe.torch", hint="pip install torch", code="unavailable") from error

from lathe._torch_append import append
from lathe._torch_arguments import (
    DTYPE_OF,
    DTYPES,
    by_name,
    check_devices,
    check_tensors,
    layout_index_of_text,
    options_of,
    read_indices,
    wrong_device,
)
from lathe._torch_envelope import Bounds, Envelope
from lathe._torch_library import library

__all__ = ["Bounds", "Envelope", "append", "attention", "attention_into", "library"]

_HOST = torch.empty(0, device="cpu")  # whatever the default device is


def _make_spec_text(
    dtype: str,
    group_size: int,
    dim_qk: int,
    dim_vo: int,
    pages: tuple[int, str, str, str],
    mask: str,
    soft_cap: bool,
    lse: str,
    fields: tuple[tuple[str, Any], ...],
) -> str:
    """The spec that `attention` needs, as text; nothing in it changes with lengths, so compiled graphs hold it as a constant."""
    page_size, order, storage, index = pages
    layout: dict[str, Any] = {"kind": "ragged"}
    if page_size:
        layout = {"kind": "paged", "page_size": page_size, "order": order, "storage": storage, "index": index}
    given: dict[str, Any] = {
        "q_dtype": dtype,
        "o_dtype": dtype,
        "group_size": group_size,
        "head_dim_qk": dim_qk,
        "head_dim_vo": dim_vo,
        "layout": layout,
        "mask": mask,
        "soft_cap": soft_cap,
        "lse": lse,
    }
    return _lathe.AttentionSpec(**{**given, **dict(fields)}).to_json()


_spec_text = torch.compiler.assume_constant_result(_make_spec_text)


def attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor | None = None,
    *,
    qo_indptr: torch.Tensor | Sequence[int],
    kv_indptr: torch.Tensor | Sequence[int] | None = None,
    kv_indices: torch.Tensor | None = None,
    last_page_len: torch.Tensor | Sequence[int] | None = None,
    block_table: torch.Tensor | None = None,
    seq_lens: torch.Tensor | Sequence[int] | None = None,
    mask: str | Callable[..., Any] | None = None,
    window: int | None = None,
    sm_scale: float | None = None,
    soft_cap: float | None = None,
    lse: str = "none",
    order: str = "NHD",
    k_scales: Mapping[str, Any] | None = None,
    v_scales: Mapping[str, Any] | None = None,
    params: Mapping[str, float] | None = None,
    tensors: Mapping[str, torch.Tensor] | None = None,
    **fields: Any,
) -> Any:
    """Attention of a batch of requests; `lathe.attention` for tensors of PyTorch, on the device that they are on.

    Lengths are read on the host: `qo_indptr`, `kv_indptr`, `last_page_len` and `seq_lens` are lists or tensors of the CPU, and
    nothing waits for the device. `kv_indices` or `block_table` are on the device of q. Whole numbers of 64 bits are refused where
    they do not fit 32; those on a GPU are not looked at, since that would wait for it: there, pass i32.

    Functions for `mask` and other hooks are traced in each call, and cannot be in a graph that `torch.compile` makes: there, and
    where calls are many, pass ``hooks=lathe.expr.hooks(...).to_text()``. `tensors`, which hooks read, are on the device of q.

    Parameters, results and errors are those of `lathe.attention`; what the operator itself finds is a RuntimeError whose text names
    the argument, its value and what is allowed.

    References
    ----------
    FlashAttention-2 (Dao, arXiv 2307.08691); softmax over tiles (Milakov and Gimelshein, arXiv 1805.02867).
    Schedules cut the work as Stream-K does (Osama et al., arXiv 2301.03598).
    """
    tensors, params = by_name("tensors", tensors), read_params(params)
    check_tensors({"v": v}, q=q, k=k, **tensors)
    check_devices(q, "q", k=k, v=v, kv_indices=kv_indices, block_table=block_table, **tensors)
    if not q.is_meta:
        host = {"qo_indptr": qo_indptr, "kv_indptr": kv_indptr, "last_page_len": last_page_len, "seq_lens": seq_lens}
        check_devices(_HOST, "lengths are read there", **host)
    if q.dtype not in DTYPES:
        raise SpecError(f"has elements of {q.dtype}; allowed: torch.float16, torch.bfloat16", where="q")
    mask = traced(mask, fields)
    paged = kv_indices is not None or block_table is not None
    refuse_unread(
        "ragged" if not paged else "csr" if block_table is None else "table",
        kv_indptr=kv_indptr,
        kv_indices=kv_indices,
        last_page_len=last_page_len,
        seq_lens=seq_lens,
    )
    if q.dim() != 3 or k.dim() != (3 if not paged else 5 if v is None else 4):
        raise SpecError(f"{list(q.shape)} and {list(k.shape)}; allowed: the shapes of lathe.attention", where="shapes of q and k")
    page_size, kv_heads = 0, k.shape[1]
    check_order(order)
    if paged:
        inner = k.shape[2:] if v is None else k.shape[1:]
        page_size, kv_heads = (inner[0], inner[1]) if order == "NHD" else (inner[1], inner[0])
    if kv_heads == 0 or q.shape[1] % kv_heads != 0:
        raise SpecError(f"has {q.shape[1]} heads, k has {kv_heads}; allowed: a multiple of k's", where="q")
    # index() and not int(): while a graph with dynamic shapes is traced, only the former gives a constant.
    spec = _spec_text(
        DTYPES[q.dtype],
        operator.index(q.shape[1] // kv_heads),
        operator.index(q.shape[2]),
        operator.index(k.shape[-1] if v is None else v.shape[-1]),
        (operator.index(page_size), order, "joint" if v is None else "separate", "csr" if block_table is None else "table"),
        mask or ("none" if window is None else "window"),
        soft_cap is not None,
        lse,
        tuple(fields.items()),
    )
    pages = block_table if block_table is not None else kv_indices
    lists = (
        read_indices("qo_indptr", qo_indptr),
        read_indices("kv_indptr", kv_indptr),
        read_indices("block_table" if block_table is not None else "kv_indices", pages),
        read_indices("last_page_len", last_page_len),
        read_indices("seq_lens", seq_lens),
    )
    if lists[2] is not None and lists[2].dim() != (1 if block_table is None else 2):
        name, allowed = ("kv_indices", "one dimension") if block_table is None else ("block_table", "[batch, pages]")
        raise SpecError(f"has the shape {list(lists[2].shape)}; allowed: {allowed}", where=name)
    if window is not None and not isinstance(window, int):
        raise SpecError(f"is {window!r}; allowed: a whole number", where="window")
    scale, cap = read_positive("sm_scale", sm_scale), read_positive("soft_cap", soft_cap)
    if k_scales or v_scales or params or tensors:
        # Zeros, since rows that the lengths leave out are not written.
        o = q.new_zeros((q.shape[0], q.shape[1], k.shape[-1] if v is None else v.shape[-1]), dtype=_out_dtype(q, fields))
        log_sum_exp = None if lse == "none" else q.new_zeros(q.shape[:2], dtype=torch.float32)
        options = options_of(scale, cap, tensors, params, k_scales, v_scales)
        torch.ops.lathe.attention_into(q, k, v, o, log_sum_exp, *lists, spec, window or 0, *options)
        return o if lse == "none" else (o, log_sum_exp)
    try:
        o, log_sum_exp = torch.ops.lathe.attention(q, k, v, *lists, spec, window or 0, scale, cap)
    except NotImplementedError as error:
        raise wrong_device(q=q, k=k, v=v) from error
    return o if lse == "none" else (o, log_sum_exp)


def _out_dtype(q: torch.Tensor, fields: Mapping[str, Any]) -> torch.dtype:
    return DTYPE_OF.get(fields.get("o_dtype", ""), q.dtype)


def attention_into(
    spec: str,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor | None,
    out: torch.Tensor,
    lse: torch.Tensor | None = None,
    *,
    qo_indptr: torch.Tensor,
    kv_indptr: torch.Tensor | None = None,
    kv_indices: torch.Tensor | None = None,
    last_page_len: torch.Tensor | None = None,
    seq_lens: torch.Tensor | None = None,
    window: int = 0,
    sm_scale: float = 0.0,
    soft_cap: float = 0.0,
    tensors: Mapping[str, torch.Tensor] | None = None,
    params: Mapping[str, float] | None = None,
    k_scales: Mapping[str, Any] | None = None,
    v_scales: Mapping[str, Any] | None = None,
) -> torch.Tensor:
    """Attention of a batch of requests by a spec that is given, hooks and codes of 8 bits included, into `out`, which it returns.

    Parameters
    ----------
    spec : str
        ``AttentionSpec.to_json()``.
    q : Tensor, [tokens, num_qo_heads, head_dim_qk]
    k, v : Tensor
        Ragged [tokens, num_kv_heads, head_dim], or pages as in `lathe.attention`; v is None where the spec's storage is joint.
    out : Tensor, [tokens, num_qo_heads, head_dim_vo]
        Where the result goes.
    lse : f32 Tensor, [tokens, num_qo_heads], optional
        Where the log-sum-exp goes, if the spec has one.
    qo_indptr, kv_indptr : i32 Tensor, [batch + 1], on the CPU
        Where rows of q begin; rows of k, or entries of `kv_indices`.
    kv_indices : i32 Tensor, optional
        Page ids on the device of q, or the block table [batch, pages] in their place.
    last_page_len, seq_lens : i32 Tensor, [batch], on the CPU, optional
        Tokens in the last page (csr), or of each request (table).
    window : int
        Keys that a row sees, itself included; 0 for none.
    sm_scale, soft_cap : float
        0 for 1 / sqrt(head_dim_qk), and for none.
    tensors, params : mappings, optional
        What the spec's hooks declare, by name; tensors are on the device of q.
    k_scales, v_scales : mappings, optional
        What codes of 8 bits stand for: ``scale``, ``token_scale``, ``channel_scale``, ``zero`` (docs/kv-formats.md).

    Returns
    -------
    Tensor
        `out`.

    Raises
    ------
    SpecError
        What is no tensor or requires a gradient, lengths that the layout does not read, a device that runs nothing.
    RuntimeError
        What the operator finds: the argument, its value and what is allowed.
    """
    check_tensors({"v": v, "lse": lse}, q=q, k=k, out=out)
    if not isinstance(spec, str):
        raise SpecError(f"is a {type(spec).__name__}; allowed: text", where="spec", hint="AttentionSpec.to_json()")
    index = layout_index_of_text(spec)
    pages = {"block_table" if index == "table" else "kv_indices": kv_indices}
    refuse_unread(index, kv_indptr=kv_indptr, last_page_len=last_page_len, seq_lens=seq_lens, **pages)
    options = options_of(sm_scale, soft_cap, tensors, params, k_scales, v_scales)
    lists = (qo_indptr, kv_indptr, kv_indices, last_page_len, seq_lens)
    try:
        torch.ops.lathe.attention_into(q, k, v, out, lse, *lists, spec, window, *options)
    except NotImplementedError as error:
        lengths = {"qo_indptr": qo_indptr, "kv_indptr": kv_indptr, "last_page_len": last_page_len, "seq_lens": seq_lens}
        raise wrong_device(q=q, k=k, v=v, out=out, lse=lse, **pages, **lengths) from error
    return out
