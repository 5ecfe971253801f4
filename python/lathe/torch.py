"""PyTorch operators: ``torch.ops.lathe``, and what is convenient around them.

Importing this module loads the operators. They take tensors of the CPU, where the host executor runs them, and of GPUs, where
they run on the current stream. A kernel is named by its spec as JSON text, so graphs that hold calls can be saved and loaded
elsewhere. There are no gradients.
"""

from __future__ import annotations

import operator
import os
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from lathe import _lathe
from lathe._arguments import check_order, read_positive, refuse_unread
from lathe.errors import SpecError, UnavailableError

try:
    import torch
except ImportError as error:
    raise UnavailableError("PyTorch is not installed", where="lathe.torch", hint="pip install torch", code="unavailable") from error

from lathe._torch_append import append
from lathe._torch_arguments import (
    DTYPES,
    check_tensors,
    layout_index,
    layout_index_of_text,
    read_indices,
    scale_tables,
)

__all__ = ["Bounds", "Envelope", "append", "attention", "attention_into", "library"]

_ALIGN = 256  # of workspaces, in bytes
_NAMES = {name: dtype for dtype, name in DTYPES.items()}


def library() -> str:
    """Path of the operators' library, for `torch.ops.load_library` in programs without this module."""
    path = Path(__file__).parent / "lib" / "liblathe_torch.so"
    if path.is_file():
        return os.fspath(path)
    raise UnavailableError(
        "was built without PyTorch",
        where="the package",
        hint="install PyTorch 2.10 or later, then build the package anew with --no-build-isolation",
        code="unavailable",
    )


torch.ops.load_library(library())


@torch.library.register_fake("lathe::attention")
def _(q, k, v, qo_indptr, kv_indptr, kv_indices, last_page_len, seq_lens, spec, window, sm_scale, soft_cap):  # type: ignore[no-untyped-def]
    parsed = _lathe.AttentionSpec.from_json(spec)
    o = q.new_empty((q.shape[0], q.shape[1], parsed.head_dim_vo), dtype=_NAMES[parsed.o_dtype])
    return o, q.new_empty((0 if parsed.lse == "none" else q.shape[0], q.shape[1]), dtype=torch.float32)


@torch.library.register_fake("lathe::sizes")
def _(like, spec, bounds):  # type: ignore[no-untyped-def]
    return torch.empty(2, dtype=torch.int64)


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
    mask: str | None = None,
    window: int | None = None,
    sm_scale: float | None = None,
    soft_cap: float | None = None,
    lse: str = "none",
    order: str = "NHD",
    k_scales: Mapping[str, Any] | None = None,
    v_scales: Mapping[str, Any] | None = None,
    **fields: Any,
) -> Any:
    """Attention of a batch of requests; `lathe.attention` for tensors of PyTorch, on the device that they are on.

    Lengths are read on the host: `qo_indptr`, `kv_indptr`, `last_page_len` and `seq_lens` are lists or tensors of the CPU, and
    nothing waits for the device. `kv_indices` or `block_table` are on the device of q. Whole numbers of 64 bits are refused where
    they do not fit 32; those on a GPU are not looked at, since that would wait for it: there, pass i32.

    Parameters, results and errors are those of `lathe.attention`; what the operator itself finds is a RuntimeError whose text names
    the argument, its value and what is allowed.
    """
    check_tensors({"v": v}, q=q, k=k)
    if q.dtype not in DTYPES:
        raise SpecError(f"has elements of {q.dtype}; allowed: torch.float16, torch.bfloat16", where="q")
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
    if paged:
        check_order(order)
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
    numbers = (spec, window or 0, read_positive("sm_scale", sm_scale), read_positive("soft_cap", soft_cap))
    if k_scales or v_scales:
        o = q.new_empty((q.shape[0], q.shape[1], k.shape[-1] if v is None else v.shape[-1]), dtype=_out_dtype(q, fields))
        log_sum_exp = None if lse == "none" else q.new_empty(q.shape[:2], dtype=torch.float32)
        hooks, scales = (*_by_name(None), *_by_name(None)), scale_tables(k_scales, v_scales)
        torch.ops.lathe.attention_into(q, k, v, o, log_sum_exp, *lists, *numbers, *hooks, *scales)
    else:
        o, log_sum_exp = torch.ops.lathe.attention(q, k, v, *lists, *numbers)
    return o if lse == "none" else (o, log_sum_exp)


def _out_dtype(q: torch.Tensor, fields: Mapping[str, Any]) -> torch.dtype:
    return _NAMES.get(fields.get("o_dtype", ""), q.dtype)


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
    out, lse : torch.Tensor
        Where results go; `lse` where the spec has one.
    qo_indptr, kv_indptr, last_page_len, seq_lens : torch.Tensor
        Of i32, on the CPU; `kv_indices`, or the block table in its place, is on the device of q.
    window, sm_scale, soft_cap : numbers
        0 for none, and for 1 / sqrt(head_dim_qk).
    tensors, params : mappings, optional
        What the spec's hooks declare, by name; tensors are on the device of q.
    k_scales, v_scales : mappings, optional
        What codes of 8 bits stand for: ``scale``, ``token_scale``, ``channel_scale``, ``zero`` (docs/kv-formats.md).
    """
    check_tensors({"v": v, "lse": lse}, q=q, k=k, out=out)
    if not isinstance(spec, str):
        raise SpecError(f"is a {type(spec).__name__}; allowed: text", where="spec", hint="AttentionSpec.to_json()")
    index = layout_index_of_text(spec)
    pages = {"block_table" if index == "table" else "kv_indices": kv_indices}
    refuse_unread(index, kv_indptr=kv_indptr, last_page_len=last_page_len, seq_lens=seq_lens, **pages)
    torch.ops.lathe.attention_into(
        *(q, k, v, out, lse, qo_indptr, kv_indptr, kv_indices, last_page_len, seq_lens),
        *(spec, window, sm_scale, soft_cap),
        *_by_name(tensors),
        *_by_name(params),
        *scale_tables(k_scales, v_scales),
    )
    return out


def _by_name(given: Mapping[str, Any] | None) -> tuple[list[Any], str]:
    """Values and their names, as the operators take them."""
    given = given or {}
    return list(given.values()), ",".join(given)


@dataclass(frozen=True)
class Bounds:
    """Upper bounds of the batches that one `Envelope` serves.

    Attributes
    ----------
    num_kv_heads : int
        Of every batch.
    max_batch : int
        Requests.
    max_qo_tokens : int
        Rows of q, summed over the batch; q and out have that many.
    max_kv_entries : int
        Ragged: rows of k. Paged: entries of kv_indices, or batch times the width of the block table.
    max_kv_len : int
        Keys of one request; needed with ``split_kv={"fixed": n}``.
    window : int
        Of every batch, where the mask has one.
    share_prefixes : bool
        Room for plans that share keys between requests.
    """

    num_kv_heads: int
    max_batch: int
    max_qo_tokens: int
    max_kv_entries: int
    max_kv_len: int = 0
    window: int = 0
    share_prefixes: bool = False

    def numbers(self) -> list[int]:
        """As the operators take them."""
        return [int(value) for value in astuple(self)]


class Envelope:
    """One workspace and one launch for every batch within bounds: plan each step, run as often as needed.

    `run` may be captured in a CUDA graph, and compiled by `torch.compile`; neither depends on the batch that is planned.

    Parameters
    ----------
    spec : AttentionSpec
    bounds : Bounds
    device : torch.device or str
        ``"cpu"`` or a GPU.
    """

    def __init__(self, spec: _lathe.AttentionSpec, bounds: Bounds, device: torch.device | str = "cpu") -> None:
        for name, value, kind in (("spec", spec, _lathe.AttentionSpec), ("bounds", bounds, Bounds)):
            if not isinstance(value, kind):
                raise SpecError(f"is {reprlib.repr(value)}; allowed: {kind.__name__}", where=name)
        self.spec = spec
        self.bounds = bounds
        self._index = layout_index(spec)
        self._text = spec.to_json()
        self._numbers = bounds.numbers()
        like = torch.empty(0, dtype=torch.uint8, device=device)
        workspace_bytes, scratch_bytes = torch.ops.lathe.sizes(like, self._text, self._numbers).tolist()
        self.workspace = _aligned(workspace_bytes, device)
        self._scratch_bytes = scratch_bytes
        self._scratch: torch.Tensor | None = None
        torch.ops.lathe.prepare_workspace(self.workspace, self._text, self._numbers)

    def plan(
        self,
        *,
        qo_indptr: torch.Tensor,
        kv_indptr: torch.Tensor | None = None,
        last_page_len: torch.Tensor | None = None,
        seq_lens: torch.Tensor | None = None,
        block_table_stride: int = 0,
        tensors: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        """Plans a batch. Lengths on the CPU are planned there, and queued as one copy; lengths on a GPU are planned on it.

        Where the spec has a mask of hooks, `tensors` may hold copies, on the CPU, of those that it reads: what they hide is then
        not loaded.
        """
        lengths = self._lengths(qo_indptr, kv_indptr, last_page_len, seq_lens)
        if qo_indptr.device.type == "cpu":
            torch.ops.lathe.plan(self.workspace, *lengths, block_table_stride, self._text, self._numbers, *_by_name(tensors))
        else:
            self.plan_on_device(
                qo_indptr=qo_indptr,
                kv_indptr=kv_indptr,
                last_page_len=last_page_len,
                seq_lens=seq_lens,
                block_table_stride=block_table_stride,
            )

    def plan_on_device(
        self,
        *,
        qo_indptr: torch.Tensor,
        kv_indptr: torch.Tensor | None = None,
        last_page_len: torch.Tensor | None = None,
        seq_lens: torch.Tensor | None = None,
        block_table_stride: int = 0,
    ) -> None:
        """Plans a batch whose lengths are on the device of the workspace: one launch, which a graph may capture."""
        if self._scratch is None:
            self._scratch = _aligned(self._scratch_bytes, self.workspace.device)
        lengths = self._lengths(qo_indptr, kv_indptr, last_page_len, seq_lens)
        torch.ops.lathe.plan_on_device(self.workspace, self._scratch, *lengths, block_table_stride, self._text, self._numbers)

    def _lengths(self, qo_indptr: Any, kv_indptr: Any, last_page_len: Any, seq_lens: Any) -> tuple[Any, ...]:
        """As the operators take them, checked."""
        lengths = {"kv_indptr": kv_indptr, "last_page_len": last_page_len, "seq_lens": seq_lens}
        check_tensors(lengths, qo_indptr=qo_indptr)
        refuse_unread(self._index, **lengths)
        return (qo_indptr, *lengths.values())

    def run(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor | None,
        out: torch.Tensor,
        *,
        lse: torch.Tensor | None = None,
        kv_indices: torch.Tensor | None = None,
        sm_scale: float = 0.0,
        soft_cap: float = 0.0,
        tensors: Mapping[str, torch.Tensor] | None = None,
        params: Mapping[str, float] | None = None,
        k_scales: Mapping[str, Any] | None = None,
        v_scales: Mapping[str, Any] | None = None,
    ) -> torch.Tensor:
        """Runs the batch that was planned last, into `out`, which it returns; rows beyond the batch are left alone.

        `tensors` and `params` are what the spec's hooks declare, by name; `k_scales` and `v_scales` what codes of 8 bits are.
        """
        check_tensors({"v": v, "lse": lse}, q=q, k=k, out=out)
        torch.ops.lathe.run(
            *(q, k, v, out, lse, self.workspace, kv_indices, self._text, self._numbers, sm_scale, soft_cap),
            *_by_name(tensors),
            *_by_name(params),
            *scale_tables(k_scales, v_scales),
        )
        return out


def _aligned(size: int, device: torch.device | str) -> torch.Tensor:
    """Bytes at an address that workspaces may have; PyTorch aligns memory of the CPU to less."""
    memory = torch.empty(max(size, 1) + _ALIGN, dtype=torch.uint8, device=device)
    start = -memory.data_ptr() % _ALIGN
    return memory[start : start + max(size, 1)]
