"""Continuous batching of transformers: layers that are given a cache of pages in place of keys and a mask.

The batch is packed: rows of all requests one after the other, and lengths say which are whose. The cache takes the new keys and
gives back those that each request sees, packed likewise; what a row sees follows from its place, and from the layer's window.
"""

from __future__ import annotations

from typing import Any

import torch

import lathe.torch
from lathe.errors import SpecError, UnavailableError

__all__ = ["attention", "serve"]


def serve(names: tuple[str, ...]) -> None:
    """Lets models whose attention goes by one of `names` generate by continuous batching, which knows a fixed set of names.

    Nothing where transformers has no continuous batching. May be called again.
    """
    try:
        from transformers.generation.continuous_batching.continuous_api import ContinuousBatchingManager
    except ImportError:
        return
    original = ContinuousBatchingManager.switch_to_cb_friendly_attn
    if hasattr(original, "_lathe_names"):
        return

    def switch_to_cb_friendly_attn(self: Any, model: Any, *args: Any, **kwargs: Any) -> Any:
        if model.config._attn_implementation in names:
            return None
        return original(self, model, *args, **kwargs)

    switch_to_cb_friendly_attn._lathe_names = names  # type: ignore[attr-defined]
    ContinuousBatchingManager.switch_to_cb_friendly_attn = switch_to_cb_friendly_attn


def attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float | None,
    softcap: float | None,
    kwargs: dict[str, Any],
) -> tuple[torch.Tensor, torch.Tensor]:
    """One layer: query [1, heads, rows, dim], key and value [1, kv_heads, rows, dim]; `kwargs` hold the cache, and the batch.

    Gives o [rows, heads, dim] and the natural log-sum-exp [rows, heads]; rows beyond the batch are 0.
    """
    for name, allowed in (("block_table", None), ("is_causal", True)):
        if kwargs.get(name, allowed) is not allowed:
            raise SpecError(f"is {kwargs[name]}; allowed: {allowed}, as continuous batching has it for this name", where=name)
    if getattr(module, "is_causal", None) is False:
        raise SpecError("is False; allowed: True, as continuous batching runs every layer causal", where="is_causal of the layer")
    for name in ("cu_seq_lens_q", "cu_seq_lens_k"):
        if kwargs.get(name) is None:
            raise SpecError("is not given; allowed: where sequences begin, as continuous batching has it", where=name)
    given = {**kwargs}
    try:
        key, value = given["cache"].update(key_states=key, value_states=value, layer_idx=module.layer_idx, kwargs=given)
    except TypeError as error:
        raise UnavailableError(
            f"has another cache: {error}", where="transformers", hint="pip install 'transformers>=5.23'", code="unavailable"
        ) from error
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    qo_indptr, kv_indptr = (given[name].to(device="cpu") for name in ("cu_seq_lens_q", "cu_seq_lens_k"))
    window = given.get("sliding_window")
    rows = int(qo_indptr[-1])
    o = q.new_zeros((*q.shape[:2], v.shape[-1]))
    lse = q.new_zeros(q.shape[:2], dtype=torch.float32)
    o[:rows], lse[:rows] = lathe.torch.attention(
        *(q[:rows], k, v),
        qo_indptr=qo_indptr,
        kv_indptr=kv_indptr,
        mask="causal" if window is None else "causal_window",
        window=window,
        sm_scale=scaling,
        soft_cap=softcap,
        lse="ln",
    )
    return o, lse
