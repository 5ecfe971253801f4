"""Attention specs: everything about an attention operation that changes generated code."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from lathe.errors import SpecError

if TYPE_CHECKING:
    from lathe._lathe import Hooks

__all__ = ["AttentionFields", "Field", "fields"]

DType = Literal["f16", "bf16"]
KvCode = Literal["e4m3", "e5m2", "i8"]
KvScale = Literal["none", "token", "channel", "token_channel"]
KvZero = Literal["none", "token", "channel"]


class LayoutFields(TypedDict, total=False):
    """Where keys and values lie."""

    kind: Literal["ragged", "paged"]
    page_size: int
    order: Literal["NHD", "HND"]
    storage: Literal["separate", "joint"]
    index: Literal["csr", "table"]


class SplitFields(TypedDict):
    """Splits at absolute multiples of this many keys."""

    fixed: int


class TileClassFields(TypedDict):
    """One tile class: query rows by keys."""

    q: int
    kv: int


class TileFields(TypedDict):
    """A tile configuration that is given instead of chosen."""

    warps: int
    stages: int
    classes: list[TileClassFields]


class AttentionFields(TypedDict, total=False):
    """The keywords of `lathe.AttentionSpec`; what each means and allows is in `lathe.spec.fields()`."""

    label: str
    q_dtype: DType
    o_dtype: DType
    kfmt: DType | KvCode
    vfmt: DType | KvCode
    kscale: KvScale
    vscale: KvScale
    kzero: KvZero
    vzero: KvZero
    group_size: int
    head_dim_qk: int
    head_dim_vo: int
    gqa_pack: Literal["auto", "on", "off"]
    layout: LayoutFields | Literal["ragged", "paged"]
    mask: Literal["none", "causal", "window", "causal_window", "both"]
    soft_cap: bool
    lse: Literal["none", "ln", "log2"]
    determinism: Literal["fast", "run_to_run", "batch_invariant"]
    split_kv: SplitFields | Literal["auto", "off"]
    tile: TileFields | Literal["auto"]
    hooks: Hooks | str | dict[str, Any]
    arch: str


class Field(TypedDict):
    """One row of `fields()`."""

    path: str
    allowed: str
    preset: str
    doc: str


def fields() -> list[Field]:
    """Every field of an attention spec, from the one list that specs are read, printed and keyed by.

    Returns
    -------
    list of Field
        ``path`` (``"layout.page_size"``), ``allowed``, ``preset`` (the value when left out) and ``doc``, one sentence.
    """
    from lathe import _lathe

    return [Field(path=path, allowed=allowed, preset=preset, doc=doc) for path, allowed, preset, doc in _lathe.attention_fields()]


def json_of(given: Mapping[str, Any]) -> str:
    """The JSON text of keywords; raises `SpecError` for unknown ones, and for values that JSON does not have."""
    known = list(dict.fromkeys(field["path"].split(".")[0] for field in fields()))
    unknown = [name for name in given if name not in known]
    if unknown:
        near = difflib.get_close_matches(unknown[0], known, n=1, cutoff=0.5)
        raise SpecError(
            "unknown field"
            + ("" if len(unknown) == 1 else f", and so {', '.join(unknown[1:])}")
            + f"; allowed: {', '.join(known)}",
            where=unknown[0],
            hint=f"did you mean {near[0]}?" if near else "",
        )
    # Hooks have a text form, which specs take.
    given = {name: value.to_text() if type(value).__name__ == "Hooks" else value for name, value in given.items()}
    for name, value in given.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise SpecError(
                f"is {value!r}; allowed: strings, whole numbers, booleans, lists and dicts of them", where=name
            ) from error
    return json.dumps({"op": "attention", **given})


def replaced(base: dict[str, Any], given: Mapping[str, Any]) -> str:
    """The JSON text of a spec in which keywords replace fields; dicts replace what they name."""
    merged = dict(base)
    merged.pop("op", None)
    for name, value in given.items():
        old = merged.get(name)
        merged[name] = {**old, **value} if name == "layout" and isinstance(old, dict) and isinstance(value, dict) else value
    return json_of(merged)
