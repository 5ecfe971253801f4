"""Variants of attention as Python functions.

A hook is a function of the inputs that it names as parameters: which keys a query sees, what becomes of a score. It is called
once, with values that record what is done to them; the expression that comes out is checked, and part of a kernel's key::

    import lathe.expr as le

    window = le.param("W", "i32")
    hooks = le.hooks(mask=lambda q_pos, kv_pos: (kv_pos <= q_pos) & (q_pos - kv_pos < window))

Arithmetic, comparisons, ``//``, ``%``, ``<<``, ``>>``, ``abs()``, and indices of tensors are written as in Python; ``&``,
``|``, ``~`` join conditions, `where` chooses, and the functions of this module do the rest. What Python would have to decide
while it traces (``if``, ``and``, ``a < b < c``, ``min()``) is refused with a `TraceError` that says what to write instead. The
language is described in ``docs/expressions.md``.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable, Sequence
from typing import Literal

from lathe import _lathe
from lathe._lathe import Hooks
from lathe._terms import Elem, Operand, Tensor, Term, Type, caller
from lathe._trace import Hook, Trace
from lathe.errors import SpecError, TraceError

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
    """
    if range is not None:
        if len(range) != 2 or not all(isinstance(end, numbers.Real) for end in range):
            raise SpecError(f"is {range!r}; allowed: (lo, hi)", where=f"range of param {name}")
        range = (float(range[0]), float(range[1]))
    return Term("param", name, (type, range))


def tensor(name: str, elem: Elem, axes: Sequence[str | int | Term], *, summary: bool = False, sorted: bool = False) -> Tensor:
    """An array that is given at run time.

    Parameters
    ----------
    name : str
    elem : {"f32", "f16", "bf16", "e4m3", "e5m2", "i32", "i8", "u8", "u32", "bool"}
    axes : sequence
        What the indices mean, outermost first: ``"B"``, ``"HQ"``, ``"HKV"``, ``"TOK"``, ``"QLEN"``, ``"KVPOS"``, ``"SLOT"``,
        ``"PAGE"``, ``"D"``, ``"N"`` (any extent), a number, or an i32 `param`.
    summary : bool
        Least and greatest values per tile may be derived, for skipping.
    sorted : bool
        It ascends along the last axis.
    """
    if isinstance(axes, str) or not isinstance(axes, Sequence):
        raise SpecError(f"is {axes!r}; allowed: a list of axes", where=f"axes of tensor {name}")
    for axis in axes:
        is_param = isinstance(axis, Term) and axis._kind == "param"
        is_number = isinstance(axis, numbers.Integral) and not isinstance(axis, bool) and 1 <= axis < 2**32
        if not (is_param or is_number or isinstance(axis, str)):
            raise SpecError(f"holds {axis!r}; allowed: names of axes, whole numbers, params", where=f"axes of tensor {name}")
    return Tensor(name, elem, tuple(axes), bool(summary), bool(sorted))


def _call(name: str) -> Callable[..., Term]:
    def function(*args: Operand) -> Term:
        return Term("call", name, args)

    return function


def where(condition: Operand, yes: Operand, no: Operand) -> Term:
    """``yes`` where the condition holds, else ``no``; both are part of the expression."""
    return Term("select", "where", (condition, yes, no))


def rot(x: Term) -> Term:
    """The rotary partner of the element ``x`` that a `query` or `key` hook transforms."""
    if not (isinstance(x, Term) and x._kind == "input" and x._text == "x"):
        raise TraceError(f"is {x!r}; allowed: the input x", where=f"{caller()}, rot")
    return Term("input", "rot(x)", ())


def u32(value: int) -> Term:
    """A number of 32 bits without a sign."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or not 0 <= value < 2**32:
        raise TraceError(f"is {value!r}; allowed: 0..4294967295", where=f"{caller()}, u32")
    return Term("u32", str(value), (int(value),))


def powi(x: Operand, n: int) -> Term:
    """``x`` to the power of a whole number that is known."""
    return Term("call", "powi", (x, n))


def clamp(x: Operand, lo: Operand, hi: Operand) -> Term:
    """``min(max(x, lo), hi)``."""
    return Term("call", "clamp", (x, lo, hi))


def bit(word: Operand, i: Operand) -> Term:
    """Bit ``i & 31`` of a u32."""
    return Term("call", "bit", (word, i))


def min(a: Operand, b: Operand) -> Term:
    """The lesser of two numbers of one type."""
    return Term("call", "min", (a, b))


def max(a: Operand, b: Operand) -> Term:
    """The greater of two numbers of one type."""
    return Term("call", "max", (a, b))


def i32(x: Operand) -> Term:
    """As i32: of bool, u32 (keeps the bits), f32 (towards zero, saturating, NaN to 0)."""
    return Term("call", "i32", (x,))


def f32(x: Operand) -> Term:
    """As f32: of i32, u32."""
    return Term("call", "f32", (x,))


def popc(word: Operand) -> Term:
    """Bits that are set in a u32."""
    return Term("call", "popc", (word,))


def isinf(x: Operand) -> Term:
    """Whether an f32 is infinite."""
    return Term("call", "isinf", (x,))


exp = _call("exp")
exp2 = _call("exp2")
log = _call("log")
log2 = _call("log2")
sqrt = _call("sqrt")
rsqrt = _call("rsqrt")
rcp = _call("rcp")
tanh = _call("tanh")
sigmoid = _call("sigmoid")
erf = _call("erf")
sin = _call("sin")
cos = _call("cos")
acos = _call("acos")
floor = _call("floor")


def parse(text: str) -> Hooks:
    """Hooks in the text form, e.g. ``"param W:i32; mask = kv_pos <= q_pos && q_pos - kv_pos < W"``."""
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
    """Rotary position embeddings as the hooks ``query`` and ``key``, in the text form, to which other hooks may be added.

    Parameters
    ----------
    head_dim : int
    dims : int
        Elements that are turned, the first of each vector: a multiple of 16; all when 0.
    interleaved : bool
        Pairs are neighbours; else halves of the vector.
    theta : float
        Base of the frequencies.
    scaling : {"none", "llama3", "yarn"}
        What longer contexts do to the frequencies; the formulas are in ``docs/expressions.md``.
    factor : float
        By which contexts grew, from `original_context` positions.
    low_frequency, high_frequency : float
        Of llama3.
    beta_fast, beta_slow, attention_factor : float
        Of yarn; the attention factor is 0.1 ln(factor) + 1 when 0.
    cache : bool
        Read from a tensor ``cos_sin`` [N, dims] of f32, cosines then sines, in place of computing.

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
