"""Prepared kernels and the schedules of their batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from lathe import _engine, _lathe
from lathe._arguments import (
    EMPTY,
    ArrayLike,
    IndexLike,
    TableLike,
    bfloat16,
    read_indices,
    read_integer,
    read_params,
    read_positive,
    read_scales,
    read_stream,
    read_tensors,
    refuse_unread,
)
from lathe.errors import SpecError


class Plan:
    """The schedule of one batch, with its workspace. Made by `Attention.plan`; it may be run as often as needed.

    Attributes
    ----------
    batch : int
        Requests.
    qo_tokens : int
        Rows of q and o.
    workspace_bytes : int
        Bytes of the workspace that it holds.
    """

    def __init__(
        self,
        plan: _lathe.Plan,
        kv_indices: npt.NDArray[np.int32] | None,
        params: dict[str, float],
        tensors: dict[str, ArrayLike],
    ) -> None:
        self._plan = plan
        self._kv_indices = kv_indices
        self._params = params
        self._tensors = tensors

    @property
    def batch(self) -> int:
        return self._plan.batch

    @property
    def qo_tokens(self) -> int:
        return self._plan.qo_tokens

    @property
    def workspace_bytes(self) -> int:
        return self._plan.workspace_bytes

    def __repr__(self) -> str:
        return f"<lathe.Plan of {self.batch} requests, {self.qo_tokens} rows, workspace {self.workspace_bytes} bytes>"


class Attention:
    """A prepared kernel: compiled or found in the cache, loaded, ready to plan and run batches.

    Immutable, and safe to use from many threads with different plans. Compiling, planning and running release the GIL.

    Parameters
    ----------
    spec : AttentionSpec
        What the kernel is made for; its ``arch`` becomes the device's.
    device : Device, optional
        Where it runs: `host_device()` when left out.
    engine : Engine, optional
        What compiles it: the one that this process shares when left out, which takes no CUDA text.
    unsafe_cuda : bool
        Whether the spec's hooks may be CUDA text (`lathe.expr.unsafe_cuda`), where `engine` takes it.

    Raises
    ------
    SpecError
        The spec cannot be served.
    CompileError
        The kernel does not compile.
    UnavailableError
        There is no compiler, and neither a bundle nor the cache has the kernel.

    Attributes
    ----------
    spec : AttentionSpec
        As it is served, with the device's ``arch``.
    device : Device
    origin : str
        Where the kernel came from: ``"memory"``, ``"disk"`` or ``"compiled"``.
    key : str
        Names the machine code, as `lathe cache ls` shows it.
    tile : dict
        The tile classes that were chosen, and why.

    References
    ----------
    FlashAttention-2 (Dao, arXiv 2307.08691); softmax over tiles (Milakov and Gimelshein, arXiv 1805.02867).
    Schedules cut the work as Stream-K does (Osama et al., arXiv 2301.03598).
    """

    def __init__(
        self,
        spec: _lathe.AttentionSpec,
        device: _lathe.Device | None = None,
        *,
        engine: _engine.Engine | None = None,
        unsafe_cuda: bool = False,
    ) -> None:
        if not isinstance(spec, _lathe.AttentionSpec):
            raise SpecError(f"is a {type(spec).__name__}; allowed: a lathe.AttentionSpec", where="spec")
        place = device or _engine.host()
        if engine is None and not unsafe_cuda:
            self._prepared = _engine.prepared(spec.to_json(), place)
        else:
            compiler = _engine.engine() if engine is None else engine._engine
            self._prepared = _lathe.PreparedAttention(compiler, place, spec, unsafe_cuda)

    @property
    def spec(self) -> _lathe.AttentionSpec:
        return self._prepared.spec

    @property
    def device(self) -> _lathe.Device:
        return self._prepared.device

    @property
    def origin(self) -> str:
        return self._prepared.origin

    @property
    def key(self) -> str:
        return self._prepared.key

    @property
    def tile(self) -> dict[str, Any]:
        return self._prepared.tile

    def plan(
        self,
        *,
        num_kv_heads: int,
        qo_indptr: IndexLike,
        kv_indptr: IndexLike | None = None,
        kv_indices: IndexLike | None = None,
        last_page_len: IndexLike | None = None,
        block_table: TableLike | None = None,
        seq_lens: IndexLike | None = None,
        num_pages: int | None = None,
        window: int | None = None,
        params: Mapping[str, float] | None = None,
        tensors: Mapping[str, ArrayLike] | None = None,
        share_prefixes: bool = True,
    ) -> Plan:
        """Schedules one batch.

        Parameters
        ----------
        num_kv_heads : int
            Heads of k and v.
        qo_indptr : [batch + 1] of int
            Rows of request b are ``qo_indptr[b] .. qo_indptr[b + 1]`` of q and o.
        kv_indptr : [batch + 1] of int, optional
            Ragged: the same for rows of k and v, in tokens. Paged by csr: for entries of `kv_indices`.
        kv_indices, last_page_len : [entries], [batch] of int, optional
            Paged by csr: page ids, and tokens in the last page of each request.
        block_table, seq_lens : [batch, pages], [batch] of int, optional
            Paged by table: page ids, and tokens of each request.
        num_pages : int, optional
            Pages that there are; when given, every page id in use is checked.
        window : int, optional
            Keys that a row sees, itself included, where the mask has a window.
        params, tensors : mappings, optional
            Of the spec's hooks, by name: params that the mask depends on, and tensors that it reads, in the host's memory. A run
            takes them from here unless it is given its own.
        share_prefixes : bool
            Whether leading pages that requests share are read once where that pays.

        Returns
        -------
        Plan

        Raises
        ------
        SpecError
            Lengths or pages that are wrong, all of them at once.
        """
        layout = self.spec.layout
        table = read_indices("block_table", block_table, rank=2) if block_table is not None else None
        entries = read_indices("kv_indices", kv_indices) if kv_indices is not None else None
        pages = table if table is not None else entries
        index = "ragged" if layout["kind"] == "ragged" else layout["index"]
        refuse_unread(
            index,
            kv_indptr=kv_indptr,
            kv_indices=kv_indices,
            last_page_len=last_page_len,
            block_table=block_table,
            seq_lens=seq_lens,
        )
        if index != "ragged" and pages is None:
            name = "block_table" if index == "table" else "kv_indices"
            raise SpecError(f"is None, but the layout's index is {index}; allowed: page ids", where=name)
        given_params, given_tensors = read_params(params), read_tensors(tensors)
        checked = num_pages is not None and pages is not None
        plan = self._prepared.plan(
            num_kv_heads=read_integer("num_kv_heads", num_kv_heads),
            qo_indptr=read_indices("qo_indptr", qo_indptr),
            kv_indptr=read_indices("kv_indptr", kv_indptr),
            last_page_len=read_indices("last_page_len", last_page_len),
            seq_lens=read_indices("seq_lens", seq_lens),
            kv_indices=pages.reshape(-1) if checked and pages is not None else EMPTY,
            block_table_stride=0 if table is None else table.shape[1],
            num_pages=0 if num_pages is None else read_integer("num_pages", num_pages),
            window=0 if window is None else read_integer("window", window),
            share_prefixes=bool(share_prefixes),
            params=given_params,
            tensors=given_tensors,
        )
        return Plan(plan, pages, given_params, given_tensors)

    def plan_layout(
        self,
        layout: _lathe.SparseLayout,
        *,
        params: Mapping[str, float] | None = None,
        tensors: Mapping[str, ArrayLike] | None = None,
    ) -> Plan:
        """Schedules one batch whose rows see chosen keys (docs/sparse-layouts.md).

        Its arrays, in `run`, are those of a ragged batch: k and v [keys, num_kv_heads, head_dim], tables of scales by keys.

        Parameters
        ----------
        layout : SparseLayout
            Made by `lathe.block_sparse` or `lathe.gather`. The spec's ``layout`` is its ``spec_layout``, and its mask none.
        params, tensors : mappings, optional
            As in `plan`.

        Returns
        -------
        Plan
            On a GPU `run` is given ``kv_indices``: a copy of the layout's in the device's memory.

        Raises
        ------
        SpecError
            The layout is for another spec.
        """
        if not isinstance(layout, _lathe.SparseLayout):
            raise SpecError(f"is a {type(layout).__name__}; allowed: a lathe.SparseLayout", where="layout")
        given_params, given_tensors = read_params(params), read_tensors(tensors)
        plan = self._prepared.plan_layout(layout, params=given_params, tensors=given_tensors)
        return Plan(plan, layout.kv_indices, given_params, given_tensors)

    def run(
        self,
        q: ArrayLike,
        k: ArrayLike,
        v: ArrayLike | None,
        plan: Plan,
        *,
        out: ArrayLike | None = None,
        lse: ArrayLike | None = None,
        kv_indices: ArrayLike | None = None,
        sm_scale: float | None = None,
        soft_cap: float | None = None,
        k_scales: Mapping[str, Any] | None = None,
        v_scales: Mapping[str, Any] | None = None,
        params: Mapping[str, float] | None = None,
        tensors: Mapping[str, ArrayLike] | None = None,
        stream: int = 0,
    ) -> Any:
        """Runs a plan: launches, and nothing else.

        Parameters
        ----------
        q : [tokens, num_qo_heads, head_dim_qk]
        k, v : arrays
            Ragged, and with a layout of chosen keys: [tokens, num_kv_heads, head_dim]. Paged: [pages, page_size, num_kv_heads,
            head_dim], or with ``order="HND"``
            [pages, num_kv_heads, page_size, head_dim]. With joint storage k is [pages, 2, ...] and v is None.
            Elements are those of the spec: ``numpy.float16``, ``ml_dtypes.bfloat16``, DLPack tensors of these, or their bits as
            ``numpy.uint16``; codes of 8 bits (kfmt, vfmt) as their own types or ``numpy.uint8``. The innermost stride is 1, others
            are whole 16 bytes; memory is 16-byte aligned.
        plan : Plan
            Of this kernel.
        out : [tokens, num_qo_heads, head_dim_vo], optional
            Where the result goes; on the host a new array when left out.
        lse : f32 [tokens, num_qo_heads], optional
            Where the log-sum-exp goes when the spec has one; on the host a new array when left out.
        kv_indices : i32, optional
            Page ids in device memory, when the kernel runs on a GPU; on the host those of the plan.
        sm_scale : float, optional
            Scale of the scores; 1 / sqrt(head_dim_qk) when left out.
        soft_cap : float, optional
            In units of scores; needed when the spec has a soft-cap.
        k_scales, v_scales : mappings, optional
            What codes of 8 bits stand for, (code - zero) * scale * token_scale * channel_scale (docs/kv-formats.md): ``scale`` a
            float, 1 when left out; and those of the f32 arrays ``token_scale``, ``channel_scale`` and ``zero`` that the spec has.
            Of tokens [tokens, num_kv_heads] or, paged, [pages, page_size, num_kv_heads]; of channels [num_kv_heads, head_dim].
        params, tensors : mappings, optional
            What the spec's hooks declare, by name; those of the plan when left out. Tensors are in the memory of the device.
        stream : int
            Address of the CUDA stream; 0 is the default stream.

        Returns
        -------
        o, or (o, lse) when the spec has a log-sum-exp

        Raises
        ------
        SpecError
            Arrays that do not fit the spec or the plan.
        LaunchError
            The launch failed.
        """
        if not isinstance(plan, Plan):
            raise SpecError(f"is a {type(plan).__name__}; allowed: a lathe.Plan", where="plan")
        spec = self.spec
        on_host = self.device.arch == "host"
        if out is None:
            out = self._new("out", (plan.qo_tokens, self._qo_heads(plan), spec.head_dim_vo), spec.o_dtype, q)
        if lse is None and spec.lse != "none":
            if not on_host:
                raise SpecError("is None; allowed: f32 [tokens, num_qo_heads] in the memory of the GPU", where="lse")
            lse = np.empty((plan.qo_tokens, self._qo_heads(plan)), np.float32)
        indices = kv_indices if kv_indices is not None or not on_host else plan._kv_indices
        self._prepared.run(
            plan._plan,
            q=q,
            k=k,
            v=v,
            o=out,
            lse=lse,
            kv_indices=indices,
            sm_scale=read_positive("sm_scale", sm_scale),
            soft_cap=read_positive("soft_cap", soft_cap),
            k_scales=read_scales("k_scales", k_scales),
            v_scales=read_scales("v_scales", v_scales),
            stream=read_stream(stream),
            params=plan._params if params is None else read_params(params),
            tensors=plan._tensors if tensors is None else read_tensors(tensors),
        )
        return out if spec.lse == "none" else (out, lse)

    def _qo_heads(self, plan: Plan) -> int:
        return plan._plan.num_kv_heads * self.spec.group_size

    def _new(self, name: str, shape: tuple[int, ...], dtype: str, like: ArrayLike) -> npt.NDArray[Any]:
        if self.device.arch != "host":
            raise SpecError(f"is None; allowed: {dtype} {list(shape)} in the memory of the GPU", where=name)
        if dtype == "f16":
            return np.empty(shape, np.float16)
        return np.empty(shape, bfloat16(like))

    def __repr__(self) -> str:
        return f"<lathe.Attention {self.spec} on {self.device.name}>"
