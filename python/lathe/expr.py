"""Variants of attention as Python functions.

A hook is a function of the inputs that it names as parameters: which keys a query sees, what becomes of a score. It is called
once, with values that record what is done to them; the expression that comes out is checked, and part of a kernel's key::

    import lathe.expr as le

    window = le.param("W", "i32")
    hooks = le.hooks(mask=lambda q_pos, kv_pos: (kv_pos <= q_pos) & (q_pos - kv_pos < window))

Arithmetic, comparisons, ``//``, ``%``, ``<<``, ``>>``, ``abs()``, and indices of tensors are written as in Python; ``&``,
``|``, ``~`` join conditions, `where` chooses, and the functions of this module do the rest. What Python would have to decide
while it traces (``if``, ``and``, ``a < b < c``, ``min()``) is refused with a `TraceError` that says what to write instead. Types
and numbers of operands are checked by `hooks`, which names the line. The language is described in ``docs/expressions.md``.
"""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Literal

from lathe import _lathe
from lathe._functions import (
    acos,
    bit,
    clamp,
    cos,
    erf,
    exp,
    exp2,
    f32,
    floor,
    i32,
    isinf,
    log,
    log2,
    max,
    min,
    popc,
    powi,
    rcp,
    rot,
    rsqrt,
    sigmoid,
    sin,
    sqrt,
    tanh,
    u32,
    unsafe_cuda,
    where,
)
from lathe._lathe import Hooks
from lathe._terms import Elem, Tensor, Term, Type
from lathe._trace import Hook, Trace
from lathe.errors import SpecError

__all__ = [
    "Hooks",
    "Tensor",
    "Term",
    "acos",
    "bit",
    "clamp",
    "cos",
    "erf",
    "exp",
    "exp2",
    "f32",
    "floor",
    "hooks",
    "i32",
    "isinf",
    "log",
    "log2",
    "max",
    "min",
    "param",
    "parse",
    "popc",
    "powi",
    "rcp",
    "rope",
    "rot",
    "rsqrt",
    "sigmoid",
    "sin",
    "sqrt",
    "tanh",
    "tensor",
    "u32",
    "unsafe_cuda",
    "where",
]


def param(name: str, type: Type, range: tuple[float, float] | None = None) -> Term:
    """A number that is given at run time, so one kernel serves all its values.

    Parameters
    ----------
    name : str
    type : {"i32", "u32", "f32", "bool"}
    range : (lo, hi), optional
        Values outside are refused when they are given; a range makes more provable.

    Returns
    -------
    Term

    Raises
    ------
    SpecError
        A range that is not (lo, hi).
    """
    return Term("param", name, (type, _range(range, f"param {name}")))


def _range(given: tuple[float, float] | None, of: str) -> tuple[float, float] | None:
    if given is None:
        return None
    if len(given) != 2 or not all(isinstance(end, numbers.Real) for end in given):
        raise SpecError(f"is {given!r}; allowed: (lo, hi)", where=f"range of {of}")
    return float(given[0]), float(given[1])


def tensor(
    name: str,
    elem: Elem,
    axes: Sequence[str | int | Term],
    *,
    range: tuple[float, float] | None = None,
    summary: bool = False,
    sorted: bool = False,
) -> Tensor:
    """An array that is given at run time.

    Parameters
    ----------
    name : str
    elem : {"f32", "f16", "bf16", "e4m3", "e5m2", "i32", "i8", "u8", "u32", "bool"}
    axes : sequence
        What the indices mean, outermost first: ``"B"``, ``"HQ"``, ``"HKV"``, ``"TOK"``, ``"QLEN"``, ``"KVPOS"``, ``"SLOT"``,
        ``"PAGE"``, ``"D"``, ``"N"`` (any extent), a number, or an i32 `param`.
    range : (lo, hi), optional
        Elements outside are read as the nearer end, NaN as ``lo``, so that what rests on them can be proven. Whole numbers of the
        element's type, or numbers of f32; not for bool.
    summary : bool
        Least and greatest values per tile may be derived, for skipping.
    sorted : bool
        It ascends along the last axis.

    Returns
    -------
    Tensor
        Its elements are Terms: f32 for f16, bf16 and 8-bit floats, i32 for i8 and u8, else of the type `elem`.

    Raises
    ------
    SpecError
        Axes that there are not, or a range that is not (lo, hi).
    """
    if isinstance(axes, str) or not isinstance(axes, Sequence):
        raise SpecError(f"is {axes!r}; allowed: a list of axes", where=f"axes of tensor {name}")
    for axis in axes:
        is_param = isinstance(axis, Term) and axis._kind == "param"
        is_number = isinstance(axis, numbers.Integral) and not isinstance(axis, bool) and 1 <= axis < 2**32
        if not (is_param or is_number or isinstance(axis, str)):
            raise SpecError(f"holds {axis!r}; allowed: names of axes, whole numbers, params", where=f"axes of tensor {name}")
    return Tensor(name, elem, tuple(axes), bool(summary), bool(sorted), _range(range, f"tensor {name}"))


def parse(text: str) -> Hooks:
    """Hooks in the text form, e.g. ``"param W:i32; mask = kv_pos <= q_pos && q_pos - kv_pos < W"``.

    Parameters
    ----------
    text : str
        As in ``docs/expressions.md``.

    Returns
    -------
    Hooks

    Raises
    ------
    SpecError
        Text that cannot be read, or hooks that are refused; with line and column.
    """
    return Hooks.parse(text)


def hooks(
    *,
    normalizer: Literal["softmax", "none"] = "softmax",
    rotary: Literal["neox", "interleaved"] = "neox",
    rotary_dims: int = 0,
    **functions: Hook,
) -> Hooks:
    """Traces Python functions into hooks.

    Parameters
    ----------
    normalizer : {"softmax", "none"}
        With none, the logits are the weights.
    rotary : {"neox", "interleaved"}
        What `rot` pairs: halves of the vector, or neighbours.
    rotary_dims : int
        Elements that fall into pairs, a multiple of 16; all when 0.
    **functions : callable
        One for each hook: ``mask``, ``logits``, ``sink``, ``weight``, ``output``, ``query``, ``key``, ``value``, ``lse_transform``,
        ``q_pos``, ``kv_pos``, ``epilogue``. Their parameters are named as the inputs that they use: ``lambda q_pos, kv_pos: ...``.

    Returns
    -------
    Hooks
        Immutable; equal keys (`canonical_bytes`) mean one kernel.

    Raises
    ------
    TraceError
        A function that cannot be traced, or an operator that does not fit its operands; every problem names the line.
    SpecError
        Hooks that are refused as a whole: an input that a hook may not use, an index that may leave its axis, ...
    """
    if normalizer not in ("softmax", "none"):
        raise SpecError(f"is {normalizer!r}; allowed: 'softmax', 'none'", where="normalizer")
    if rotary not in ("neox", "interleaved"):
        raise SpecError(f"is {rotary!r}; allowed: 'neox', 'interleaved'", where="rotary")
    if isinstance(rotary_dims, bool) or not isinstance(rotary_dims, int) or rotary_dims not in range(0, 1025, 16):
        raise SpecError(f"is {rotary_dims!r}; allowed: a multiple of 16 in 0..1024", where="rotary_dims")
    inputs: dict[str, list[str]] = _lathe.words()["hooks"]
    trace = Trace(_lathe.HookBuilder(normalizer == "softmax", rotary == "interleaved", rotary_dims))
    for name, function in functions.items():
        if name not in inputs:
            raise SpecError(f"unknown hook; allowed: {', '.join(inputs)}", where=name)
        trace.add(name, function, inputs[name])
    return trace.finish()


def rope(
    head_dim: int,
    *,
    dims: int = 0,
    interleaved: bool = False,
    theta: float = 10000.0,
    scaling: Literal["none", "llama3", "yarn"] = "none",
    factor: float = 1.0,
    original_context: float = 8192.0,
    low_frequency: float = 1.0,
    high_frequency: float = 4.0,
    beta_fast: float = 32.0,
    beta_slow: float = 1.0,
    attention_factor: float = 0.0,
    cache: bool = False,
) -> str:
    """Rotary position embeddings (Su et al., arXiv 2104.09864) as the hooks ``query`` and ``key``, in the text form.

    Other hooks may be added to the text.

    Parameters
    ----------
    head_dim : int
        Elements of a vector of q and k.
    dims : int
        Elements that are turned, the first of each vector: a multiple of 16; all when 0.
    interleaved : bool
        Pairs are neighbours; else halves of the vector.
    theta : float
        Base of the frequencies.
    scaling : {"none", "llama3", "yarn"}
        What longer contexts do to the frequencies; the formulas are in ``docs/expressions.md``.
    factor, original_context : float
        By which contexts grew, and from how many positions.
    low_frequency, high_frequency : float
        Of llama3: turns over the original context that bound the blend.
    beta_fast, beta_slow, attention_factor : float
        Of yarn (Peng et al., arXiv 2309.00071): turns that bound the blend; the attention factor is 0.1 ln(factor) + 1 when 0.
    cache : bool
        Read from a tensor ``cos_sin`` [N, dims] of f32, cosines then sines, in place of computing.

    Returns
    -------
    str
        What `parse` and the spec's field ``hooks`` take.

    Raises
    ------
    SpecError
        Options that make no sense, all at once.
    """
    return _lathe.rope(
        head_dim,
        dims,
        interleaved,
        theta,
        scaling,
        factor,
        original_context,
        low_frequency,
        high_frequency,
        beta_fast,
        beta_slow,
        attention_factor,
        cache,
    )
