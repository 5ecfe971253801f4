"""Attention over packed (ragged) and paged batches, in one call."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

from lathe import _lathe, expr
from lathe._arguments import ArrayLike, IndexLike, TableLike, check_order, dtype_of
from lathe._kernel import Attention
from lathe.errors import SpecError

# Hooks that functions may be given for, beside mask.
_HOOKS = ("q_pos", "kv_pos", "query", "key", "value", "logits", "sink", "weight", "output")


def attention(
    q: ArrayLike,
    k: ArrayLike,
    v: ArrayLike | None = None,
    *,
    qo_indptr: IndexLike | None = None,
    kv_indptr: IndexLike | None = None,
    kv_indices: IndexLike | None = None,
    last_page_len: IndexLike | None = None,
    block_table: TableLike | None = None,
    seq_lens: IndexLike | None = None,
    layout: _lathe.SparseLayout | None = None,
    mask: str | Callable[..., Any] | None = None,
    window: int | None = None,
    sm_scale: float | None = None,
    soft_cap: float | None = None,
    k_scales: Mapping[str, Any] | None = None,
    v_scales: Mapping[str, Any] | None = None,
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
    layout : SparseLayout, optional
        What `lathe.block_sparse` or `lathe.gather` made: rows see chosen keys. In place of the lengths and pages above; k and v are
        [keys, num_kv_heads, head_dim], and the mask is none or a function.
    mask : str or callable, optional
        ``"none"``, ``"causal"``, ``"window"`` or ``"causal_window"``, bottom-right aligned. Left out: none, or window where
        `window` is given. A function is a hook, see below.
    window : int, optional
        Keys that a row sees, itself included.
    sm_scale : float, optional
        1 / sqrt(head_dim_qk) when left out.
    soft_cap : float, optional
        Scores become ``soft_cap * tanh(score / soft_cap)``.
    k_scales, v_scales : mappings, optional
        Of codes of 8 bits, as in `Attention.run`; with ``kfmt="e4m3"`` and the like among the fields.
    lse : str
        ``"ln"`` or ``"log2"``: the log-sum-exp of each row is returned too.
    order : {"NHD", "HND"}
        Of pages: tokens before heads, or heads before tokens.
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

    References
    ----------
    FlashAttention-2 (Dao, arXiv 2307.08691); softmax over tiles (Milakov and Gimelshein, arXiv 1805.02867).
    Schedules cut the work as Stream-K does (Osama et al., arXiv 2301.03598).

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
    lengths: dict[str, Any] = {
        "qo_indptr": qo_indptr,
        "kv_indptr": kv_indptr,
        "kv_indices": kv_indices,
        "last_page_len": last_page_len,
        "block_table": block_table,
        "seq_lens": seq_lens,
        "window": window,
    }
    if layout is not None:
        _refuse_lengths(layout, lengths, order)
    paged = kv_indices is not None or block_table is not None
    found = _layout(shapes, paged, joint=v is None, order=order, table=block_table is not None)
    tokens, qo_heads, dim_qk = _shape("q", shapes["q"], 3)
    kv_heads, dim_vo, rows_or_pages = _kv_sizes(shapes, found)
    if kv_heads == 0 or qo_heads % max(kv_heads, 1) != 0:
        raise SpecError(f"has {qo_heads} heads, k has {kv_heads}; allowed: a multiple of k's", where="q")
    mask = traced(mask, fields)
    if mask is None:
        mask = "none" if window is None else "window"
    q_dtype = dtype_of("q", elements["q"], fields.pop("q_dtype", None))
    spec = _lathe.AttentionSpec(
        **{
            "q_dtype": q_dtype,
            "o_dtype": q_dtype,
            "group_size": qo_heads // kv_heads,
            "head_dim_qk": dim_qk,
            "head_dim_vo": dim_vo,
            "layout": found if layout is None else layout.spec_layout,
            "mask": mask,
            "soft_cap": soft_cap is not None,
            "lse": lse,
            **fields,
        }
    )
    if layout is not None:
        _check_sizes(layout, tokens, rows_or_pages, kv_heads)
    kernel = Attention(spec)
    if layout is not None:
        plan = kernel.plan_layout(layout, params=params, tensors=tensors)
    else:
        if qo_indptr is None:
            lengths["qo_indptr"] = [0, tokens]
        if kv_indptr is None and not paged:
            lengths["kv_indptr"] = [0, rows_or_pages]
        plan = kernel.plan(
            num_kv_heads=kv_heads, num_pages=rows_or_pages if paged else None, params=params, tensors=tensors, **lengths
        )
    return kernel.run(q, k, v, plan, out=out, sm_scale=sm_scale, soft_cap=soft_cap, k_scales=k_scales, v_scales=v_scales)


def traced(mask: str | Callable[..., Any] | None, fields: dict[str, Any]) -> str | None:
    """Functions, given for the mask or among `fields`, become the hooks of `fields`; gives the mask where it is a name."""
    functions = {name: fields.pop(name) for name in _HOOKS if callable(fields.get(name))}
    if callable(mask):
        functions["mask"], mask = mask, None
    if functions:
        if "hooks" in fields:
            raise SpecError("is given, and so are functions; allowed: one of both", where="hooks")
        fields["hooks"] = expr.hooks(normalizer=fields.pop("normalizer", "softmax"), **functions)
    return mask


def _refuse_lengths(layout: _lathe.SparseLayout, lengths: dict[str, Any], order: str) -> None:
    """Refuses what a layout of chosen keys stands in place of."""
    if not isinstance(layout, _lathe.SparseLayout):
        raise SpecError(f"is a {type(layout).__name__}; allowed: a lathe.SparseLayout", where="layout")
    for name, value in lengths.items():
        if value is not None:
            raise SpecError("is given, and so is a layout of chosen keys; allowed: None", where=name)
    if order != "NHD":
        raise SpecError(f"is {order!r}; allowed: 'NHD', with a layout of chosen keys", where="order")


def _check_sizes(layout: _lathe.SparseLayout, tokens: int, keys: int, kv_heads: int) -> None:
    for name, what, given, made_for in (
        ("q", "rows", tokens, layout.tokens),
        ("k", "rows", keys, layout.keys),
        ("k", "heads", kv_heads, layout.num_kv_heads),
    ):
        if given != made_for:
            raise SpecError(f"has {given} {what}; allowed: {made_for}, for which the layout was made", where=name)


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
    check_order(order)
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
