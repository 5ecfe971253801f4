"""Hugging Face transformers: ``attn_implementation="lathe"``.

After `register`, a model runs its attention on Lathe by name, on a CPU or a GPU, in f16 or bf16::

    import lathe.frontends.transformers

    lathe.frontends.transformers.register()
    model.set_attn_implementation("lathe")

The mask that transformers makes is the only source of what a row sees; it is read, not guessed, so padding, windows and packed
documents are what they are with ``"eager"``. In continuous batching (``model.generate_batch``) lengths take its place. What cannot
be served is refused, with its layer: dropout, gradients, additive biases, masks with holes, f32.
"""

from __future__ import annotations

from typing import Any

import torch

import lathe.torch
from lathe.errors import Error, SpecError, UnavailableError
from lathe.frontends import paged
from lathe.frontends.masks import Runs, runs_of

__all__ = ["NAME", "register"]

NAME = "lathe"
PAGED_NAME = f"paged|{NAME}"
# Arguments of attention functions that change nothing beside a mask, which has what they stand for, or that are not attention's;
# `_without_mask` reads some of them.
_PASSED_OVER = {
    "cache_position",
    "cu_seq_lens_k",
    "cu_seq_lens_q",
    "is_causal",
    "max_length_k",
    "max_length_q",
    "output_hidden_states",
    "past_key_values",
    "position_ids",
    "return_dict",
    "sliding_window",
    "use_cache",
}
# Further ones of continuous batching; `paged` reads those that it needs.
_OF_BATCHES = {"block_table", "cache", "logits_indices", "logits_processor_args", "read_index", "write_index"}


def register() -> None:
    """Makes ``"lathe"`` a name of transformers' attention and mask functions, and of continuous batching. May be called again.

    ``"paged|lathe"``, as continuous batching once wanted names, means the same.

    Raises
    ------
    lathe.UnavailableError
        transformers is not installed, or is too old.
    """
    try:
        from transformers import AttentionInterface, AttentionMaskInterface
        from transformers.masking_utils import sdpa_mask
    except ImportError as error:
        raise UnavailableError(
            f"cannot be used: {error}", where="transformers", hint="pip install 'transformers>=5.23'", code="unavailable"
        ) from error

    def mask(*args: Any, **kwargs: Any) -> torch.Tensor | None:
        """A boolean mask, always: where others may leave it out, nobody would know what a row sees."""
        kwargs["allow_is_causal_skip"] = False
        kwargs["allow_is_bidirectional_skip"] = False
        result: torch.Tensor | None = sdpa_mask(*args, **kwargs)
        return result

    for name in (NAME, PAGED_NAME):
        AttentionInterface.register(name, attention)
        AttentionMaskInterface.register(name, mask)
    paged.serve((NAME, PAGED_NAME))


def attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of one layer, as transformers calls it by name; see its `AttentionInterface`.

    Parameters
    ----------
    module : torch.nn.Module
        The layer; its ``layer_idx`` is in messages.
    query : Tensor, [batch, heads, rows, dim], f16 or bf16
    key, value : Tensor, [batch, kv_heads, keys, dim]
    attention_mask : Tensor, [batch, 1, rows, keys], optional
        Of bool, or of 0 and numbers that hide a key; needed in causal layers of more than one row.
    scaling : float, optional
        Of scores; 1 / sqrt(dim) when left out.
    dropout : float
        0.
    softcap : float, optional
        In units of scores.
    s_aux : Tensor, [heads], optional
        Sinks: one more logit of each head, without a value.
    **kwargs
        What the model passes on beside; what is not known to change nothing is refused.

    Returns
    -------
    o : Tensor, [batch, rows, heads, dim]
    None
        In place of weights.

    Raises
    ------
    SpecError
        What is not served, with the layer.
    """
    try:
        return _attention(module, query, key, value, attention_mask, scaling, dropout, softcap, s_aux, kwargs), None
    except (Error, RuntimeError) as error:
        layer = f"layer {getattr(module, 'layer_idx', '?')} ({type(module).__name__})"
        raise SpecError(str(error), where=f"transformers, {layer}") from error


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None,
    dropout: float,
    softcap: float | None,
    s_aux: torch.Tensor | None,
    kwargs: dict[str, Any],
) -> torch.Tensor:
    if dropout:
        raise SpecError(f"is {dropout}; allowed: 0", where="dropout", hint="model.eval()")
    batching = kwargs.get("cache") is not None
    for name, given in kwargs.items():
        if given is not None and given is not False and name not in _PASSED_OVER and not (batching and name in _OF_BATCHES):
            raise SpecError("is given; allowed: None, as it is not served", where=name)
    batch, heads, rows, dim = query.shape
    if batching:
        o, lse = paged.attention(module, query, key, value, scaling, softcap, kwargs)
        return _with_sinks(o, lse, s_aux).reshape(batch, rows, heads, value.shape[-1])
    kv_heads, keys = key.shape[1:3]
    runs = _runs(module, attention_mask, batch, rows, keys, query.device, kwargs)
    o, lse = lathe.torch.attention(
        query.transpose(1, 2).reshape(batch * rows, heads, dim),
        key.transpose(1, 2).reshape(batch * keys, 1, kv_heads, dim),
        value.transpose(1, 2).reshape(batch * keys, 1, kv_heads, value.shape[-1]),
        qo_indptr=runs.qo_indptr,
        kv_indptr=runs.kv_indptr,
        kv_indices=runs.kv_indices,
        last_page_len=runs.last_page_len,
        mask=runs.mask,
        window=runs.window,
        sm_scale=scaling,
        soft_cap=softcap,
        lse="ln",
    )
    return _with_sinks(o, lse, s_aux).reshape(batch, rows, heads, value.shape[-1])


def _with_sinks(o: torch.Tensor, lse: torch.Tensor, sinks: torch.Tensor | None) -> torch.Tensor:
    """A sink is one more logit in the denominator: exp(lse) / (exp(lse) + exp(sink))."""
    if sinks is None:
        return o
    return (o.float() * torch.sigmoid(lse - sinks.float()).unsqueeze(-1)).to(o.dtype)


def _runs(
    module: torch.nn.Module,
    mask: torch.Tensor | None,
    batch: int,
    rows: int,
    keys: int,
    device: torch.device,
    kwargs: dict[str, Any],
) -> Runs:
    """The requests of a mask; kept with it until it is written to, because every layer of a model is given the same one."""
    if mask is None:
        return runs_of(_without_mask(module, kwargs, rows, keys).to(device).expand(batch, rows, keys))
    if mask.is_inference():  # PyTorch does not count what is written to it
        return runs_of(_visible(mask, batch, rows, keys))
    state = (mask._version, batch, rows, keys)
    known = vars(mask).get("_lathe_runs")
    if isinstance(known, tuple) and known[0] == state:
        runs: Runs = known[1]
        return runs
    runs = runs_of(_visible(mask, batch, rows, keys))
    vars(mask)["_lathe_runs"] = (state, runs)
    return runs


def _without_mask(module: torch.nn.Module, kwargs: dict[str, Any], rows: int, keys: int) -> torch.Tensor:
    """What rows see where a layer is given no mask, [rows, keys] of bool: as in transformers, ``is_causal`` of the call decides."""
    for name in ("cu_seq_lens_q", "cu_seq_lens_k"):
        if kwargs.get(name) is not None:
            raise SpecError("is given without a mask; allowed: None, or a mask that keeps sequences apart", where=name)
    window = kwargs.get("sliding_window")
    if window is not None and window < keys:
        raise SpecError(f"is {window} without a mask, for {keys} keys; allowed: None, no less, or a mask", where="sliding_window")
    visible = torch.ones((rows, keys), dtype=torch.bool, device="cpu")
    is_causal = kwargs.get("is_causal")
    if is_causal is None and getattr(module, "is_causal", True):
        raise SpecError(
            "is None in a causal layer; allowed: a mask",
            where="attention_mask",
            hint="the model did not ask for one under the name of its attention function",
        )
    if not is_causal or rows == 1:
        return visible
    if rows != keys:  # attention functions differ in which corner they align
        raise SpecError(
            f"is {is_causal} without a mask, for {rows} rows and {keys} keys; allowed: as many, or a mask", where="is_causal"
        )
    return visible.tril()


def _visible(mask: torch.Tensor, batch: int, rows: int, keys: int) -> torch.Tensor:
    """A mask as [batch, rows, keys] of bool."""
    if mask.dim() != 4 or mask.shape[1] != 1 or mask.shape[2] != rows or mask.shape[3] < keys:
        raise SpecError(
            f"has the shape {list(mask.shape)}; allowed: [{batch}, 1, {rows}, {keys}], the same for all heads",
            where="attention_mask",
        )
    mask = mask[:, 0, :, :keys].expand(batch, rows, keys)
    if mask.dtype == torch.bool:
        return mask
    visible = mask == 0
    if not bool((visible | (mask <= torch.finfo(mask.dtype).min / 2)).all()):
        raise SpecError("adds to scores; allowed: 0, and numbers that hide a key", where="attention_mask")
    return visible
