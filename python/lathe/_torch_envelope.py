"""Steps of a server through the operators: one workspace for every batch within bounds."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.compiler import is_dynamo_compiling

import lathe._torch_library  # noqa: F401, loads the operators
from lathe import _lathe
from lathe._arguments import read_integer, refuse_unread
from lathe._torch_arguments import (
    DEVICES,
    by_name,
    check_devices,
    check_tensors,
    layout_index,
    options_of,
    wrong_device,
)
from lathe.errors import SpecError

_ALIGN = 256  # of workspaces, in bytes
_RUN = torch.ops.lathe.run.default
_RUN_BELOW = getattr(_RUN, "_op", _RUN)  # what `_RUN` calls when it is called, which graphs do not know


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
        Keys of one request; needed with ``split_kv={"fixed": n}``. With a mask of hooks its plans are exact up to these.
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

    def envelope(self, spec: _lathe.AttentionSpec | str) -> str:
        """What names an envelope of `spec`, or of its JSON text, within these bounds to the operators.

        Parameters
        ----------
        spec : AttentionSpec or str
            The latter as ``AttentionSpec.to_json()`` has it.

        Returns
        -------
        str

        Raises
        ------
        SpecError
            A bound that is no whole number.
        """
        given = vars(self).items()
        numbers = (int(value) if isinstance(value, bool) else read_integer(name, value) for name, value in given)
        return ",".join(map(str, numbers)) + " " + (spec if isinstance(spec, str) else spec.to_json())


class Envelope:
    """One workspace and one launch for every batch within bounds: plan each step, run as often as needed.

    `run` may be captured in a CUDA graph, and compiled by `torch.compile`; neither depends on the batch that is planned.

    Parameters
    ----------
    spec : AttentionSpec
    bounds : Bounds
    device : torch.device or str
        ``"cpu"`` or a GPU.

    Raises
    ------
    SpecError
        What is no spec, no bounds or no device that there is.
    RuntimeError
        What the operator finds: a spec that is not served, a kernel that does not compile, bounds that are too large.

    Attributes
    ----------
    spec : AttentionSpec
    bounds : Bounds
    workspace : u8 Tensor
        On the device; its size depends on the bounds alone.

    References
    ----------
    FlashAttention-2 (Dao, arXiv 2307.08691); softmax over tiles (Milakov and Gimelshein, arXiv 1805.02867).
    Schedules cut the work as Stream-K does (Osama et al., arXiv 2301.03598).
    """

    def __init__(self, spec: _lathe.AttentionSpec, bounds: Bounds, device: torch.device | str = "cpu") -> None:
        for name, value, kind in (("spec", spec, _lathe.AttentionSpec), ("bounds", bounds, Bounds)):
            if not isinstance(value, kind):
                raise SpecError(f"is {reprlib.repr(value)}; allowed: {kind.__name__}", where=name)
        try:
            like = torch.empty(0, dtype=torch.uint8, device=device)
        except (RuntimeError, TypeError, AssertionError) as error:  # the last where PyTorch has no CUDA
            raise SpecError(f"is {device!r}; allowed: {' or '.join(DEVICES)}, where there is one", where="device") from error
        if like.device.type not in DEVICES:
            raise SpecError(f"is {device!r}; allowed: {' or '.join(DEVICES)}", where="device")
        self.spec = spec
        self.bounds = bounds
        self._index = layout_index(spec)
        self._name = bounds.envelope(spec)
        workspace_bytes, scratch_bytes = torch.ops.lathe.sizes(like, self._name).tolist()
        self.workspace = _aligned(workspace_bytes, device)
        self._scratch_bytes = scratch_bytes
        self._scratch: torch.Tensor | None = None
        self._planned = False
        torch.ops.lathe.prepare_workspace(self.workspace, self._name)

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

        Parameters
        ----------
        qo_indptr, kv_indptr : i32 Tensor, [batch + 1]
            Where rows of q begin; where rows of k (ragged), or entries of `kv_indices` (csr), do. All lengths are on one device.
        last_page_len : i32 Tensor, [batch], optional
            Paged by csr: tokens in the last page of each request.
        seq_lens : i32 Tensor, [batch], optional
            Paged by table: tokens of each request.
        block_table_stride : int
            Paged by table: entries of a row of the table; else 0.
        tensors : mapping, optional
            Where the spec has a mask of hooks: copies, on the CPU, of tensors that it reads; what they hide is then not loaded.

        Raises
        ------
        SpecError
            What is no tensor, on another device, or not read by the layout.
        RuntimeError
            What the operator finds: lengths that are wrong, or beyond the bounds; planned on a device, these stop the kernel.
        """
        lengths = self._lengths(qo_indptr, kv_indptr, last_page_len, seq_lens)
        if qo_indptr.device.type == "cpu":
            read = by_name("tensors", tensors)
            torch.ops.lathe.plan(self.workspace, *lengths, block_table_stride, self._name, list(read.values()), ",".join(read))
            self._planned = True
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
        """Plans a batch whose lengths are on the device of the workspace: one launch, which a graph may capture.

        Parameters and errors are those of `plan`.
        """
        if self._scratch is None:
            self._scratch = _aligned(self._scratch_bytes, self.workspace.device)
        lengths = self._lengths(qo_indptr, kv_indptr, last_page_len, seq_lens)
        torch.ops.lathe.plan_on_device(self.workspace, self._scratch, *lengths, block_table_stride, self._name)
        self._planned = True

    def _lengths(self, qo_indptr: Any, kv_indptr: Any, last_page_len: Any, seq_lens: Any) -> tuple[Any, ...]:
        """As the operators take them, checked."""
        lengths = {"kv_indptr": kv_indptr, "last_page_len": last_page_len, "seq_lens": seq_lens}
        check_tensors(lengths, qo_indptr=qo_indptr)
        if qo_indptr.device.type not in DEVICES:
            raise wrong_device(qo_indptr=qo_indptr)
        check_devices(qo_indptr, "qo_indptr", **lengths)
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

        Parameters
        ----------
        q : Tensor, [max_qo_tokens, num_qo_heads, head_dim_qk]
        k, v : Tensor
            Ragged [max_kv_entries, num_kv_heads, head_dim], or pages as in `lathe.attention`; v is None with joint storage.
        out : Tensor, [max_qo_tokens, num_qo_heads, head_dim_vo]
        lse : f32 Tensor, [max_qo_tokens, num_qo_heads], optional
            If the spec has a log-sum-exp.
        kv_indices : i32 Tensor, [max_kv_entries], optional
            Page ids, or the block table; on the device.
        sm_scale, soft_cap : float
            0 for 1 / sqrt(head_dim_qk), and for none.
        tensors, params : mappings, optional
            What the spec's hooks declare, by name; tensors are on the device.
        k_scales, v_scales : mappings, optional
            What codes of 8 bits stand for, as in `lathe.Attention.run`.

        Returns
        -------
        Tensor
            `out`.

        Raises
        ------
        SpecError
            Nothing was planned; what is no tensor, requires a gradient, or is on a device that runs nothing.
        RuntimeError
            What the operator finds: the argument, its value and what is allowed.
        """
        if not self._planned:
            raise SpecError("is not there; allowed: plan() before run()", where="plan")
        call = _RUN if is_dynamo_compiling() else _RUN_BELOW
        try:
            # Written out, since this is called for each layer of each step; types are the operator's to check.
            if torch.is_grad_enabled() and (
                q.requires_grad
                or k.requires_grad
                or out.requires_grad
                or (v is not None and v.requires_grad)
                or (lse is not None and lse.requires_grad)
            ):
                check_tensors({"v": v, "lse": lse}, q=q, k=k, out=out)
            if sm_scale or soft_cap or tensors or params or k_scales or v_scales:
                options = options_of(sm_scale, soft_cap, tensors, params, k_scales, v_scales)
                call(q, k, v, out, lse, self.workspace, kv_indices, self._name, *options)
            else:
                call(q, k, v, out, lse, self.workspace, kv_indices, self._name)
        except (AttributeError, RuntimeError) as error:
            check_tensors({"v": v, "lse": lse}, q=q, k=k, out=out)
            if isinstance(error, NotImplementedError):
                raise wrong_device(q=q, k=k, v=v, out=out, lse=lse, kv_indices=kv_indices) from error
            raise
        return out


def _aligned(size: int, device: torch.device | str) -> torch.Tensor:
    """Bytes at an address that workspaces may have; PyTorch aligns memory of the CPU to less."""
    memory = torch.empty(max(size, 1) + _ALIGN, dtype=torch.uint8, device=device)
    start = -memory.data_ptr() % _ALIGN
    return memory[start : start + max(size, 1)]
