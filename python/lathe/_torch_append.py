"""Filling a cache: `lathe.torch.append`."""

from __future__ import annotations

import json
import operator
from collections.abc import Mapping
from typing import Any

import torch

from lathe._arguments import check_order
from lathe._torch_arguments import DTYPES, check_tensors, element_of, scale_arguments, scale_fields, wrong_device
from lathe.errors import SpecError


def _make_append_text(fields: tuple[tuple[str, Any], ...], layout: tuple[tuple[str, Any], ...]) -> str:
    return json.dumps({"op": "append", **dict(fields), "layout": dict(layout)})


_append_text = torch.compiler.assume_constant_result(_make_append_text)


def append(
    k: torch.Tensor,
    v: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor | None = None,
    *,
    q: torch.Tensor | None = None,
    slot_mapping: torch.Tensor | None = None,
    batch_indices: torch.Tensor | None = None,
    positions: torch.Tensor | None = None,
    kv_indptr: torch.Tensor | None = None,
    kv_indices: torch.Tensor | None = None,
    block_table: torch.Tensor | None = None,
    cos_sin: torch.Tensor | None = None,
    interleaved: bool = False,
    order: str = "NHD",
    k_scales: Mapping[str, Any] | None = None,
    v_scales: Mapping[str, Any] | None = None,
) -> None:
    """Writes new keys and values into a cache's pages, in the cache's formats, and turns them and q by their positions.

    One launch, which a graph may capture; all tensors are on the device of k. A token with a negative slot or request is
    padding: nothing of it is read or written.

    Parameters
    ----------
    k : Tensor, [tokens, num_kv_heads, head_dim_qk], f16 or bf16
    v : Tensor, [tokens, num_kv_heads, head_dim_vo]
    k_cache : Tensor, [pages, page_size, num_kv_heads, head_dim_qk]
        Elements as k's, or ``float8_e4m3fn``, ``float8_e5m2`` or ``int8``. With ``order="HND"`` the middle two are swapped. Without
        v_cache, [pages, 2, ...] with keys and values.
    v_cache : Tensor, optional
    q : Tensor, [tokens, num_qo_heads, head_dim_qk], optional
        Turned in place; with `cos_sin` only.
    slot_mapping : Tensor, i64 [tokens], optional
        Where tokens go: page * page_size + place. In its place, `batch_indices` with `positions`, and the pages of the
        requests: `kv_indptr` with `kv_indices`, or `block_table`.
    batch_indices, positions : Tensor, i32 [tokens], optional
        A token's request, and its position there. Positions are needed with `cos_sin` too.
    kv_indptr, kv_indices : Tensor, i32 [batch + 1] and i32, optional
    block_table : Tensor, i32 [batch, pages], optional
    cos_sin : Tensor, f32 [positions, dims], optional
        Half of each row cosines, the rest sines; the first `dims` elements of q and k are turned.
    order : {"NHD", "HND"}
    interleaved : bool
        Pairs that are turned are neighbours, else ``dims / 2`` apart.
    k_scales, v_scales : mapping, optional
        Of caches of 8 bits: ``scale``, ``token_scale`` and ``zero`` of tokens, which are written, ``channel_scale`` and ``zero`` of
        channels (docs/kv-append.md).

    Raises
    ------
    SpecError
        Elements that no cache has, or unknown scales.
    RuntimeError
        What the operator finds: the argument, its value and what is allowed.

    References
    ----------
    Rotary embeddings: Su et al., arXiv 2104.09864. Scales of tokens and channels: Liu et al. (KIVI), arXiv 2402.02750.
    """
    table = block_table is not None
    pages = {"block_table": block_table} if table else {"kv_indices": kv_indices}
    places = {"slot_mapping": slot_mapping, "batch_indices": batch_indices, "positions": positions}
    where = {**places, "kv_indptr": kv_indptr, **pages, "cos_sin": cos_sin}
    check_tensors({"v_cache": v_cache, "q": q, **where}, k=k, v=v, k_cache=k_cache)
    if k.dtype not in DTYPES:
        raise SpecError(f"has elements of {k.dtype}; allowed: torch.float16, torch.bfloat16", where="k")
    joint = v_cache is None
    if k.dim() != 3 or v.dim() != 3 or k_cache.dim() != (5 if joint else 4):
        raise SpecError(f"{list(k.shape)} and {list(k_cache.shape)}; allowed: the shapes above", where="shapes of k and k_cache")
    check_order(order)
    page_size = k_cache.shape[-3 if order == "NHD" else -2]
    layout = {
        "page_size": operator.index(page_size),
        "order": order,
        "storage": "joint" if joint else "separate",
        "index": "table" if table else "csr",
    }
    rope = "none" if cos_sin is None else "interleaved" if interleaved else "neox"
    spec = _append_text(
        tuple(
            {
                "q_dtype": DTYPES[k.dtype],
                "kfmt": element_of("k_cache", k_cache),
                "vfmt": element_of("v_cache", k_cache if v_cache is None else v_cache),
                "head_dim_qk": operator.index(k.shape[2]),
                "head_dim_vo": operator.index(v.shape[2]),
                "rope": rope,
                "rope_dims": 0 if cos_sin is None else operator.index(cos_sin.shape[-1]),
                "place": "positions" if slot_mapping is None else "slots",
                **scale_fields("k", k_scales),
                **scale_fields("v", v_scales),
            }.items()
        ),
        tuple(layout.items()),
    )
    scales = (*scale_arguments("k_scales", k_scales), *scale_arguments("v_scales", v_scales))
    try:
        torch.ops.lathe.append(q, k, v, k_cache, v_cache, *where.values(), spec, *scales)
    except NotImplementedError as error:
        raise wrong_device(k=k, v=v, k_cache=k_cache, v_cache=v_cache, q=q, **where) from error
