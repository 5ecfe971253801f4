"""Functions of the expression language; `lathe.expr` holds their names."""

from __future__ import annotations

import inspect
import numbers
from collections.abc import Callable

from lathe._terms import Operand, Term, caller
from lathe.errors import TraceError

_CALL_DOC = """{}, in fp32.

Parameters
----------
x : f32 Term or number

Returns
-------
f32 Term
"""


def _call(name: str, meaning: str) -> Callable[..., Term]:
    def function(*args: Operand) -> Term:
        return Term("call", name, args)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = _CALL_DOC.format(meaning)
    x = inspect.Parameter("x", inspect.Parameter.POSITIONAL_ONLY, annotation="Operand")
    function.__signature__ = inspect.Signature([x], return_annotation="Term")  # type: ignore[attr-defined]
    return function


def where(condition: Operand, yes: Operand, no: Operand) -> Term:
    """``yes`` where the condition holds, else ``no``; both are part of the expression.

    Parameters
    ----------
    condition : bool Term or bool
    yes, no : Term or number, of one type

    Returns
    -------
    Term, of the type of `yes`
    """
    return Term("select", "where", (condition, yes, no))


def rot(x: Term) -> Term:
    """The rotary partner of the element ``x`` that a `query` or `key` hook transforms.

    Parameters
    ----------
    x : Term
        The input ``x`` itself, nothing made of it.

    Returns
    -------
    f32 Term

    Raises
    ------
    TraceError
        Something else.
    """
    if not (isinstance(x, Term) and x._kind == "input" and x._text == "x"):
        raise TraceError(f"is {x!r}; allowed: the input x", where=f"{caller()}, rot")
    return Term("input", "rot(x)", ())


def u32(value: int) -> Term:
    """A number of 32 bits without a sign.

    Parameters
    ----------
    value : int
        0..4294967295.

    Returns
    -------
    u32 Term

    Raises
    ------
    TraceError
        Something else.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or not 0 <= value < 2**32:
        raise TraceError(f"is {value!r}; allowed: 0..4294967295", where=f"{caller()}, u32")
    return Term("u32", str(value), (int(value),))


def powi(x: Operand, n: int) -> Term:
    """``x`` to the power of a whole number that is known.

    Parameters
    ----------
    x : f32 Term or number
    n : int
        -1024..1024.

    Returns
    -------
    f32 Term
    """
    return Term("call", "powi", (x, n))


def clamp(x: Operand, lo: Operand, hi: Operand) -> Term:
    """``min(max(x, lo), hi)``.

    Parameters
    ----------
    x, lo, hi : Term or number, of one type

    Returns
    -------
    Term, of their type
    """
    return Term("call", "clamp", (x, lo, hi))


def bit(word: Operand, i: Operand) -> Term:
    """Bit ``i & 31`` of a u32.

    Parameters
    ----------
    word : u32 Term
    i : i32 Term or int

    Returns
    -------
    bool Term
    """
    return Term("call", "bit", (word, i))


def min(a: Operand, b: Operand) -> Term:
    """The lesser of two numbers of one type.

    Parameters
    ----------
    a, b : Term or number, of one type

    Returns
    -------
    Term, of their type
    """
    return Term("call", "min", (a, b))


def max(a: Operand, b: Operand) -> Term:
    """The greater of two numbers of one type.

    Parameters
    ----------
    a, b : Term or number, of one type

    Returns
    -------
    Term, of their type
    """
    return Term("call", "max", (a, b))


def i32(x: Operand) -> Term:
    """As i32: of bool, u32 (keeps the bits), f32 (towards zero, saturating, NaN to 0).

    Parameters
    ----------
    x : Term, of bool, u32 or f32

    Returns
    -------
    i32 Term
    """
    return Term("call", "i32", (x,))


def f32(x: Operand) -> Term:
    """As f32: of i32, u32.

    Parameters
    ----------
    x : Term, of i32 or u32

    Returns
    -------
    f32 Term
    """
    return Term("call", "f32", (x,))


def popc(word: Operand) -> Term:
    """Bits that are set in a u32.

    Parameters
    ----------
    word : u32 Term

    Returns
    -------
    i32 Term
    """
    return Term("call", "popc", (word,))


def isinf(x: Operand) -> Term:
    """Whether an f32 is infinite.

    Parameters
    ----------
    x : f32 Term

    Returns
    -------
    bool Term
    """
    return Term("call", "isinf", (x,))


def unsafe_cuda(text: str, *operands: Operand) -> Term:
    """CUDA text in place of an expression: all of a hook, compiled as it stands.

    It runs with the rights of this process and of the GPU, and nothing is known of it: no tile of a mask is skipped. An engine
    takes it only when it was made with ``unsafe_cuda=True`` and the `lathe.Attention` asks for it too.

    Parameters
    ----------
    text : str
        The body of a function that returns what the hook is; printable ASCII, line ends and tabs.
    *operands : Term or number
        What it sees as ``a0``, ``a1``, ...: bool, int, unsigned or float. At most eight.

    Returns
    -------
    Term

    Raises
    ------
    TraceError
        A text that is no str.
    """
    if not isinstance(text, str):
        raise TraceError(f"is {text!r}; allowed: a str", where=f"{caller()}, unsafe_cuda")
    return Term("cuda", text, operands)


exp = _call("exp", "e to the power of x")
exp2 = _call("exp2", "2 to the power of x")
log = _call("log", "The natural logarithm of x")
log2 = _call("log2", "The logarithm of x to the base 2")
sqrt = _call("sqrt", "The square root of x")
rsqrt = _call("rsqrt", "1 / sqrt(x)")
rcp = _call("rcp", "1 / x")
tanh = _call("tanh", "The hyperbolic tangent of x")
sigmoid = _call("sigmoid", "1 / (1 + exp(-x))")
erf = _call("erf", "The error function of x")
sin = _call("sin", "The sine of x, which is in radians")
cos = _call("cos", "The cosine of x, which is in radians")
acos = _call("acos", "The arc cosine of x, in radians")
floor = _call("floor", "The largest whole number that is not above x")
