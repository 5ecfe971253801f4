"""From what a call asks for to the spec of a Lathe kernel."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import torch

from lathe import _lathe
from lathe._arguments import read_integer
from lathe.compat.flashinfer._arguments import FLOAT8, Unsupported
from lathe.errors import SpecError

_NAMES = {torch.float16: "f16", torch.bfloat16: "bf16", torch.float8_e4m3fn: "e4m3", torch.float8_e5m2: "e5m2"}
_SPLIT_GRAIN = 16  # tokens

# Masks of hooks, by what they are made of, and what they read for each row; a row's first key is where its window begins.
MASK_ROWS = {"": (), "bits": ("mask_row", "mask_first"), "items": ("item_prefix", "item_first", "mask_first")}
_MASKS = {
    "": "",
    # Rows of the mask start at any bit.
    "bits": "tensor mask_bits: u8[N], mask_row: i32[TOK], mask_first: i32[TOK];"
    "mask = kv >= mask_first[tok]"
    " && ((mask_bits[(mask_row[tok] + kv) >> 3] >> ((mask_row[tok] + kv) & 7)) & 1) == 1;",
    "items": "tensor item_prefix: i32[TOK], item_first: i32[TOK], mask_first: i32[TOK];"
    "mask = kv_pos <= q_pos && kv_pos >= mask_first[tok] && (kv_pos < item_prefix[tok] || kv_pos >= item_first[tok]);",
}


@dataclass(frozen=True)
class Features:
    """Everything about a call that a kernel depends on.

    Attributes
    ----------
    q_dtype, kv_dtype, o_dtype : torch.dtype
        As the caller has them; 8-bit queries and results are converted around the kernel.
    page_size : int
        0 where keys and values are ragged.
    own_mask : str
        A key of `MASK_ROWS`; not empty, it takes the place of `causal` and the kernel's window.
    split_tokens : int
        Keys of a split, 0 to leave it to the planner, -1 for none.
    """

    q_dtype: torch.dtype
    kv_dtype: torch.dtype
    o_dtype: torch.dtype
    group_size: int
    head_dim_qk: int
    head_dim_vo: int
    page_size: int
    layout: str
    causal: bool
    windowed: bool
    own_mask: str
    soft_cap: bool
    positions: str
    rope_scale: float
    rope_theta: float
    split_tokens: int


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """What a kernel takes and gives in place of `dtype`: f16 holds every number of the 8-bit floats."""
    return torch.float16 if dtype in FLOAT8 else dtype


def split_tokens(fixed: int | None, disabled: bool, page_size: int) -> int:
    """`fixed` is in pages, or in tokens where there are none."""
    if disabled:
        return -1
    if fixed is None or read_integer("fixed_split_size", fixed) <= 0:
        return 0
    return math.ceil(fixed * max(page_size, 1) / _SPLIT_GRAIN) * _SPLIT_GRAIN


def _rope_text(features: Features) -> str:
    """Pairs (i, i + dim / 2) turned by position / scale * theta^(-2 i / dim), of queries and keys alike."""
    half = features.head_dim_qk // 2
    rate = -math.log2(features.rope_theta) / half
    return (
        f"rotary = neox({features.head_dim_qk});"
        f"let rope_f = exp2(f32(d % {half}) * {rate!r}) * {1.0 / features.rope_scale!r};"
        "let rope_angle = f32(pos) * rope_f;"
        "query = x * cos(rope_angle) + rot(x) * sin(rope_angle);"
        "key = x * cos(rope_angle) + rot(x) * sin(rope_angle);"
    )


def _hooks(features: Features) -> str:
    text = _MASKS[features.own_mask]
    if features.positions == "ROPE_LLAMA":
        text += _rope_text(features)
    elif features.positions == "ALIBI":
        biased = "score + slopes[h] * f32(kv - q)"
        text += "tensor slopes: f32[HQ];"
        text += f"param cap: f32; logits = cap * tanh(({biased}) / cap);" if features.soft_cap else f"logits = {biased};"
    return text


def _dtype_name(name: str, dtype: torch.dtype) -> str:
    if dtype not in _NAMES:
        raise Unsupported(f"is {dtype}; allowed: {', '.join(str(known) for known in _NAMES)}", where=name)
    return _NAMES[dtype]


@functools.lru_cache(maxsize=1024)
def spec_text(features: Features) -> str:
    """The spec as JSON. Refuses what no kernel of Lathe serves."""
    q = _dtype_name("q_data_type", compute_dtype(features.q_dtype))
    kv = _dtype_name("kv_data_type", features.kv_dtype)
    if features.kv_dtype not in FLOAT8 and kv != q:
        raise Unsupported(
            f"is {features.kv_dtype}, q_data_type is {features.q_dtype}; allowed: the same, or 8 bits", where="kv_data_type"
        )
    o = _dtype_name("o_data_type", compute_dtype(features.o_dtype))
    layout: dict[str, Any] = {"kind": "ragged"}
    if features.page_size:
        layout = {"kind": "paged", "page_size": features.page_size, "order": features.layout}
    mask = {(False, False): "none", (True, False): "causal", (False, True): "window", (True, True): "causal_window"}
    hooks = _hooks(features)
    fields: dict[str, Any] = {
        "q_dtype": q,
        "o_dtype": o,
        "kfmt": kv,
        "vfmt": kv,
        "group_size": features.group_size,
        "head_dim_qk": features.head_dim_qk,
        "head_dim_vo": features.head_dim_vo,
        "layout": layout,
        "mask": "none" if features.own_mask else mask[features.causal, features.windowed],
        "soft_cap": features.soft_cap and features.positions != "ALIBI",
        "lse": "log2",
        "split_kv": {-1: "off", 0: "auto"}.get(features.split_tokens, {"fixed": features.split_tokens}),
    }
    if hooks:
        fields["hooks"] = hooks
    try:
        return _lathe.AttentionSpec(**fields).to_json()
    except SpecError as error:
        raise Unsupported(error.message, where=error.where or "spec", hint=error.hint) from error
