"""Attention over packed (ragged) and paged batches."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from lathe import _engine, _lathe, expr
from lathe.errors import SpecError

__all__ = ["Attention", "Plan", "attention"]

# A numpy array, or any object with __dlpack__().
ArrayLike: TypeAlias = Any
IndexLike: TypeAlias = Sequence[int] | npt.NDArray[np.integer[Any]]

_EMPTY = np.empty(0, np.int32)
# Hooks that functions may be given for, beside mask.
_HOOKS = ("q_pos", "kv_pos", "query", "key", "value", "logits", "sink", "weight", "output")


def _indices(name: str, value: IndexLike | None, rank: int = 1) -> npt.NDArray[np.int32]:
    """`value` as contiguous i32, without a change of any number; None is empty."""
    if value is None:
        return _EMPTY
    if isinstance(value, np.ndarray) or not hasattr(value, "__dlpack__"):
        array = np.asarray(value)
    else:
        array = np.from_dlpack(value)
    if array.size == 0 and array.dtype == np.float64:  # an empty list
        array = array.astype(np.int32)
    if array.ndim != rank:
        raise SpecError(f"has {array.ndim} dimensions; allowed: {rank}", where=name)
    if not np.issubdtype(array.dtype, np.integer):
        raise SpecError(f"has elements of {array.dtype}; allowed: whole numbers", where=name)
    limits = np.iinfo(np.int32)
    if array.size and (int(array.min()) < limits.min or int(array.max()) > limits.max):
        raise SpecError(f"holds {array.min()}..{array.max()}; allowed: numbers of 32 bits", where=name)
    return np.ascontiguousarray(array, np.int32)


def _integer(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise SpecError(f"is {value!r}; allowed: a whole number", where=name)
    if not -(2**31) <= int(value) < 2**31:
        raise SpecError(f"is {value}; allowed: a number of 32 bits", where=name)
    return int(value)


def _positive(name: str, value: Any) -> float:
    """A run-time number; None is 0, which stands for none."""
    if value is None:
        return 0.0
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise SpecError(f"is {value!r}; allowed: a number", where=name)
    if not (float(value) > 0 and math.isfinite(float(value))):
        raise SpecError(f"is {value}; allowed: finite and > 0", where=name)
    return float(value)


def _params(given: Mapping[str, float] | None) -> dict[str, float]:
    params = {}
    for name, value in (given or {}).items():
        if not isinstance(value, int | float | np.number | np.bool_):
            raise SpecError(f"is {value!r}; allowed: a number", where=f"param {name}")
        params[str(name)] = float(value)
    return params


def _tensors(given: Mapping[str, ArrayLike] | None) -> dict[str, ArrayLike]:
    return {str(name): value for name, value in (given or {}).items()}


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
    origin : str
        Where the kernel came from: ``"memory"``, ``"disk"`` or ``"compiled"``.
    key : str
        Names the machine code, as `lathe cache ls` shows it.
    tile : dict
        The tile classes that were chosen, and why.
    """

    def __init__(self, spec: _lathe.AttentionSpec, device: _lathe.Device | None = None) -> None:
        if not isinstance(spec, _lathe.AttentionSpec):
            raise SpecError(f"is a {type(spec).__name__}; allowed: a lathe.AttentionSpec", where="spec")
        self._prepared = _engine.prepared(spec.to_json(), device or _engine.host())

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
        block_table: IndexLike | None = None,
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
        table = _indices("block_table", block_table, rank=2) if block_table is not None else None
        entries = _indices("kv_indices", kv_indices) if kv_indices is not None else None
        pages = table if table is not None else entries
        if layout["kind"] == "paged":
            self._check_pages(table, entries)
        elif pages is not None:
            name = "block_table" if table is not None else "kv_indices"
            raise SpecError("is given, but the layout is ragged; allowed: None", where=name)
        given_params, given_tensors = _params(params), _tensors(tensors)
        checked = num_pages is not None and pages is not None
        plan = self._prepared.plan(
            num_kv_heads=_integer("num_kv_heads", num_kv_heads),
            qo_indptr=_indices("qo_indptr", qo_indptr),
            kv_indptr=_indices("kv_indptr", kv_indptr),
            last_page_len=_indices("last_page_len", last_page_len),
            seq_lens=_indices("seq_lens", seq_lens),
            kv_indices=pages.reshape(-1) if checked and pages is not None else _EMPTY,
            block_table_stride=0 if table is None else table.shape[1],
            num_pages=0 if num_pages is None else _integer("num_pages", num_pages),
            window=0 if window is None else _integer("window", window),
            share_prefixes=bool(share_prefixes),
            params=given_params,
            tensors=given_tensors,
        )
        return Plan(plan, pages, given_params, given_tensors)

    def _check_pages(self, table: npt.NDArray[np.int32] | None, entries: npt.NDArray[np.int32] | None) -> None:
        by_table = self.spec.layout["index"] == "table"
        wanted, other = ("block_table", "kv_indices") if by_table else ("kv_indices", "block_table")
        given, surplus = (table, entries) if by_table else (entries, table)
        index = self.spec.layout["index"]
        if given is None:
            raise SpecError(f"is None, but the layout's index is {index}; allowed: page ids", where=wanted)
        if surplus is not None:
            raise SpecError(f"is given, but the layout's index is {index}; allowed: None", where=other)

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
        params: Mapping[str, float] | None = None,
        tensors: Mapping[str, ArrayLike] | None = None,
        stream: int = 0,
    ) -> Any:
        """Runs a plan: launches, and nothing else.

        Parameters
        ----------
        q : [tokens, num_qo_heads, head_dim_qk]
        k, v : arrays
            Ragged: [tokens, num_kv_heads, head_dim]. Paged: [pages, page_size, num_kv_heads, head_dim], or with ``order="HND"``
            [pages, num_kv_heads, page_size, head_dim]. With joint storage k is [pages, 2, ...] and v is None.
            Elements are those of the spec: ``numpy.float16``, ``ml_dtypes.bfloat16``, DLPack tensors of these, or their bits as
            ``numpy.uint16``. The innermost stride is 1, others are whole 16 bytes; memory is 16-byte aligned.
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
            sm_scale=_positive("sm_scale", sm_scale),
            soft_cap=_positive("soft_cap", soft_cap),
            stream=_stream(stream),
            params=plan._params if params is None else _params(params),
            tensors=plan._tensors if tensors is None else _tensors(tensors),
        )
        return out if spec.lse == "none" else (out, lse)

    def _qo_heads(self, plan: Plan) -> int:
        return plan._plan.num_kv_heads * self.spec.group_size

    def _new(self, name: str, shape: tuple[int, ...], dtype: str, like: ArrayLike) -> npt.NDArray[Any]:
        if self.device.arch != "host":
            raise SpecError(f"is None; allowed: {dtype} {list(shape)} in the memory of the GPU", where=name)
        if dtype == "f16":
            return np.empty(shape, np.float16)
        return np.empty(shape, _bfloat16(like))

    def __repr__(self) -> str:
        return f"<lathe.Attention {self.spec} on {self.device.name}>"


def _stream(stream: Any) -> int:
    if isinstance(stream, bool) or not isinstance(stream, int) or stream < 0:
        raise SpecError(f"is {stream!r}; allowed: the address of a CUDA stream, or 0", where="stream")
    return stream


def _bfloat16(like: ArrayLike) -> np.dtype[Any]:
    """The dtype of new bf16 arrays: that of `like`, or bits where only bits are known."""
    if isinstance(like, np.ndarray) and like.dtype.name in ("bfloat16", "uint16"):
        known: np.dtype[Any] = like.dtype
        return known
    try:
        import ml_dtypes
    except ImportError:
        return np.dtype(np.uint16)
    dtype: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return dtype


def _dtype_of(name: str, element: str, given: Any) -> str:
    """The spec's dtype of an array's elements."""
    if element == "bits16":
        return str(given) if given is not None else "bf16"
    if element not in ("f16", "bf16"):
        raise SpecError(f"has elements of {element}; allowed: f16, bf16 (or their bits as uint16)", where=name)
    return element


def attention(
    q: ArrayLike,
    k: ArrayLike,
    v: ArrayLike | None = None,
    *,
    qo_indptr: IndexLike | None = None,
    kv_indptr: IndexLike | None = None,
    kv_indices: IndexLike | None = None,
    last_page_len: IndexLike | None = None,
    block_table: IndexLike | None = None,
    seq_lens: IndexLike | None = None,
    mask: str | Callable[..., Any] | None = None,
    window: int | None = None,
    sm_scale: float | None = None,
    soft_cap: float | None = None,
    lse: str = "none",
    order: str = "NHD",
    out: ArrayLike | None = None,
    params: Mapping[str, float] | None = None,
    tensors: Mapping[str, ArrayLike] | None = None,
    **fields: Any,
) -> Any:
    """Attention of a batch of requests, on the host executor: one call that prepares, plans and runs.

    The spec follows from the arrays; the kernel is compiled at the first call of its kind and comes from memory or the cache after.
    Servers prepare once and plan each step: see `Attention`.

    Parameters
    ----------
    q : [tokens, num_qo_heads, head_dim_qk]
        The rows of all requests, one after the other.
    k, v : arrays
        Without page ids: [tokens, num_kv_heads, head_dim], packed like q. With page ids: [pages, page_size, num_kv_heads,
        head_dim], or with ``order="HND"`` [pages, num_kv_heads, page_size, head_dim]; or k alone, [pages, 2, ...], holding both.
        f16, bf16, DLPack or bits as uint16: see `Attention.run`.
    qo_indptr : [batch + 1] of int, optional
        Rows of request b are ``qo_indptr[b] .. qo_indptr[b + 1]``; one request when left out.
    kv_indptr, kv_indices, last_page_len, block_table, seq_lens : optional
        As in `Attention.plan`. `kv_indices` or `block_table` make the layout paged.
    mask : str or callable, optional
        ``"none"``, ``"causal"``, ``"window"`` or ``"causal_window"``, bottom-right aligned. Left out: none, or window where
        `window` is given. A function is a hook, see below.
    window : int, optional
        Keys that a row sees, itself included.
    sm_scale : float, optional
        1 / sqrt(head_dim_qk) when left out.
    soft_cap : float, optional
        Scores become ``soft_cap * tanh(score / soft_cap)``.
    lse : str
        ``"ln"`` or ``"log2"``: the log-sum-exp of each row is returned too.
    out : array, optional
        Where the result goes.
    params, tensors : mappings, optional
        Values of what hooks declare, by name.
    **fields
        Hooks as functions: ``logits``, ``sink``, ``weight``, ``output``, ``query``, ``key``, ``value``, ``q_pos``, ``kv_pos``, with
        ``normalizer``, as `lathe.expr.hooks` takes them. Further fields of `AttentionSpec`: ``determinism``, ``split_kv``,
        ``o_dtype``, ...

    Returns
    -------
    o : [tokens, num_qo_heads, head_dim_vo]
        Rows that see no key are 0. With `lse`: ``(o, lse)``, the latter f32 [tokens, num_qo_heads].

    Raises
    ------
    SpecError
        An argument that is refused; named with its value and what is allowed.
    CompileError, LaunchError, UnavailableError
        See `lathe.errors`.

    Examples
    --------
    >>> import numpy as np, lathe
    >>> q = np.ones((4, 8, 64), np.float16)
    >>> k = v = np.ones((4, 2, 64), np.float16)
    >>> lathe.attention(q, k, v, mask="causal").shape
    (4, 8, 64)
    """
    elements, shapes = {}, {}
    for name, value in (("q", q), ("k", k), ("v", v)):
        if value is None and name == "v":
            continue
        elements[name], shapes[name], on_host, gpu = _lathe.describe_array(name, value)
        if not on_host:
            raise SpecError(f"is in the memory of GPU {gpu}; allowed: the host's", where=name, hint="lathe.Attention runs on a GPU")
    paged = kv_indices is not None or block_table is not None
    layout = _layout(shapes, paged, joint=v is None, order=order, table=block_table is not None)
    tokens, qo_heads, dim_qk = _shape("q", shapes["q"], 3)
    kv_heads, dim_vo, rows_or_pages = _kv_sizes(shapes, layout)
    if kv_heads == 0 or qo_heads % max(kv_heads, 1) != 0:
        raise SpecError(f"has {qo_heads} heads, k has {kv_heads}; allowed: a multiple of k's", where="q")
    functions = {name: fields.pop(name) for name in _HOOKS if callable(fields.get(name))}
    if callable(mask):
        functions["mask"], mask = mask, None
    if functions:
        if "hooks" in fields:
            raise SpecError("is given, and so are functions; allowed: one of both", where="hooks")
        fields["hooks"] = expr.hooks(normalizer=fields.pop("normalizer", "softmax"), **functions)
    if mask is None:
        mask = "none" if window is None else "window"
    q_dtype = _dtype_of("q", elements["q"], fields.pop("q_dtype", None))
    spec = _lathe.AttentionSpec(
        **{
            "q_dtype": q_dtype,
            "o_dtype": q_dtype,
            "group_size": qo_heads // kv_heads,
            "head_dim_qk": dim_qk,
            "head_dim_vo": dim_vo,
            "layout": layout,
            "mask": mask,
            "soft_cap": soft_cap is not None,
            "lse": lse,
            **fields,
        }
    )
    kernel = Attention(spec)
    if qo_indptr is None:
        qo_indptr = [0, tokens]
    if kv_indptr is None and not paged:
        kv_indptr = [0, rows_or_pages]
    plan = kernel.plan(
        num_kv_heads=kv_heads,
        qo_indptr=qo_indptr,
        kv_indptr=kv_indptr,
        kv_indices=kv_indices,
        last_page_len=last_page_len,
        block_table=block_table,
        seq_lens=seq_lens,
        num_pages=rows_or_pages if paged else None,
        window=window,
        params=params,
        tensors=tensors,
    )
    return kernel.run(q, k, v, plan, out=out, sm_scale=sm_scale, soft_cap=soft_cap)


def _shape(name: str, shape: tuple[int, ...], rank: int) -> tuple[int, ...]:
    if len(shape) != rank:
        raise SpecError(f"has {len(shape)} dimensions, {list(shape)}; allowed: {rank}", where=name)
    return shape


def _layout(shapes: dict[str, tuple[int, ...]], paged: bool, joint: bool, order: str, table: bool) -> dict[str, Any]:
    """The spec's layout, as the arrays have it."""
    if not paged:
        if joint:
            raise SpecError("is None; allowed: an array (k holds both only in pages)", where="v")
        return {"kind": "ragged"}
    if order not in ("NHD", "HND"):
        raise SpecError(f"is {order!r}; allowed: 'NHD', 'HND'", where="order")
    k = _shape("k", shapes["k"], 5 if joint else 4)
    inner = k[2:] if joint else k[1:]
    return {
        "kind": "paged",
        "page_size": inner[0] if order == "NHD" else inner[1],
        "order": order,
        "storage": "joint" if joint else "separate",
        "index": "table" if table else "csr",
    }


def _kv_sizes(shapes: dict[str, tuple[int, ...]], layout: dict[str, Any]) -> tuple[int, int, int]:
    """KV heads, head_dim_vo, and rows (ragged) or pages."""
    if layout["kind"] == "ragged":
        k, v = _shape("k", shapes["k"], 3), _shape("v", shapes["v"], 3)
        return k[1], v[2], k[0]
    k = shapes["k"]
    inner = list(itertools.islice(k, 2 if layout["storage"] == "joint" else 1, None))
    v = k if layout["storage"] == "joint" else _shape("v", shapes["v"], 4)
    return inner[1] if layout["order"] == "NHD" else inner[0], v[-1], k[0]
