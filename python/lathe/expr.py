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

import inspect
import math
import numbers
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NoReturn, SupportsFloat, SupportsIndex, TypeAlias

from lathe import _lathe
from lathe._lathe import Hooks
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

Type: TypeAlias = Literal["i32", "u32", "f32", "bool"]
Elem: TypeAlias = Literal["f32", "f16", "bf16", "e4m3", "e5m2", "i32", "i8", "u8", "u32", "bool"]
Operand: TypeAlias = "Term | int | float | bool"

_HERE = __file__


def _caller() -> str:
    """The line of the user's program that is running: "file.py:12"."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename == _HERE:
        frame = frame.f_back
    return f"{frame.f_code.co_filename.rsplit('/', 1)[-1]}:{frame.f_lineno}"


class Term:
    """A value that is not known yet: an input of a hook, a param, an element of a tensor, or what was made of them.

    Terms are made by `param`, by calls of hooks, and by operators. They cannot be asked for their value.
    """

    __slots__ = ("_args", "_kind", "_line", "_text")
    # Arrays of numpy leave operators with a term to the term.
    __array_ufunc__ = None
    __hash__ = object.__hash__

    def __init__(self, kind: str, text: str, args: tuple[Any, ...]) -> None:
        self._kind = kind
        self._text = text
        self._args = args
        self._line = _caller()

    # Operators of the language.
    def __add__(self, other: Operand) -> Term:
        return _infix("+", self, other)

    def __radd__(self, other: Operand) -> Term:
        return _infix("+", other, self)

    def __sub__(self, other: Operand) -> Term:
        return _infix("-", self, other)

    def __rsub__(self, other: Operand) -> Term:
        return _infix("-", other, self)

    def __mul__(self, other: Operand) -> Term:
        return _infix("*", self, other)

    def __rmul__(self, other: Operand) -> Term:
        return _infix("*", other, self)

    def __truediv__(self, other: Operand) -> Term:
        return _infix("/", self, other)

    def __rtruediv__(self, other: Operand) -> Term:
        return _infix("/", other, self)

    def __floordiv__(self, other: Operand) -> Term:
        return _infix("//", self, other)

    def __rfloordiv__(self, other: Operand) -> Term:
        return _infix("//", other, self)

    def __mod__(self, other: Operand) -> Term:
        return _infix("%", self, other)

    def __rmod__(self, other: Operand) -> Term:
        return _infix("%", other, self)

    def __lshift__(self, other: Operand) -> Term:
        return _infix("<<", self, other)

    def __rlshift__(self, other: Operand) -> Term:
        return _infix("<<", other, self)

    def __rshift__(self, other: Operand) -> Term:
        return _infix(">>", self, other)

    def __rrshift__(self, other: Operand) -> Term:
        return _infix(">>", other, self)

    def __and__(self, other: Operand) -> Term:
        return _infix("&", self, other)

    def __rand__(self, other: Operand) -> Term:
        return _infix("&", other, self)

    def __or__(self, other: Operand) -> Term:
        return _infix("|", self, other)

    def __ror__(self, other: Operand) -> Term:
        return _infix("|", other, self)

    def __xor__(self, other: Operand) -> Term:
        return _infix("^", self, other)

    def __rxor__(self, other: Operand) -> Term:
        return _infix("^", other, self)

    def __lt__(self, other: Operand) -> Term:
        return _infix("<", self, other)

    def __le__(self, other: Operand) -> Term:
        return _infix("<=", self, other)

    def __gt__(self, other: Operand) -> Term:
        return _infix(">", self, other)

    def __ge__(self, other: Operand) -> Term:
        return _infix(">=", self, other)

    def __eq__(self, other: object) -> Term:  # type: ignore[override]
        return _infix("==", self, other)

    def __ne__(self, other: object) -> Term:  # type: ignore[override]
        return _infix("!=", self, other)

    def __neg__(self) -> Term:
        return Term("prefix", "-", (self,))

    def __pos__(self) -> Term:
        return self

    def __invert__(self) -> Term:
        return Term("prefix", "!", (self,))

    def __abs__(self) -> Term:
        return Term("call", "abs", (self,))

    def __pow__(self, power: int) -> Term:
        return powi(self, power)

    # What Python would have to decide now.
    def __bool__(self) -> bool:
        self._refuse(
            "the truth of a traced value is asked for (by if, while, and, or, not, a < b < c, min(), max(), in)",
            "write where(c, a, b), &, |, ~, (a < b) & (b < c), lathe.expr.min, lathe.expr.max",
        )

    def __float__(self) -> float:
        self._refuse("a number is made of a traced value", "functions of lathe.expr take the place of those of math and numpy")

    def __int__(self) -> int:
        self._refuse("a number is made of a traced value", "lathe.expr.i32 converts")

    def __index__(self) -> int:
        self._refuse("a traced value is an index", "only tensors of lathe.expr.tensor are read at traced indices")

    def __len__(self) -> int:
        self._refuse("a traced value has no length", "it stands for one number")

    def __iter__(self) -> NoReturn:
        self._refuse("a traced value is gone through", "it stands for one number")

    def __getitem__(self, index: object) -> NoReturn:
        self._refuse("a traced value has no elements", "declare a tensor with lathe.expr.tensor")

    def __round__(self, digits: SupportsIndex = 0) -> NoReturn:
        self._refuse("round() is not in the language", "floor(x + 0.5)")

    def __array__(self, *_: object, **__: object) -> NoReturn:
        self._refuse("an array is made of a traced value", "functions of lathe.expr take the place of those of numpy")

    def _refuse(self, what: str, hint: str) -> NoReturn:
        raise TraceError(what, where=f"{_caller()}, {self._shown()}", hint=hint)

    def _shown(self) -> str:
        if self._kind in ("input", "param"):
            return f"'{self._text}'"
        return f"the value of '{self._text}'" + (f" from {self._line}" if self._line != _caller() else "")

    def __repr__(self) -> str:
        return f"<lathe.expr.Term {self._kind} {self._text!r}>"


@dataclass(frozen=True, eq=False)
class Tensor:
    """An array that is given at run time; ``t[h]``, ``t[tok, kv >> 5]`` are its elements. Made by `tensor`."""

    name: str
    elem: str
    axes: tuple[str | int | Term, ...]
    summary: bool
    sorted: bool

    def __getitem__(self, index: Operand | tuple[Operand, ...]) -> Term:
        return Term("read", self.name, (self, *(index if isinstance(index, tuple) else (index,))))

    def __iter__(self) -> NoReturn:
        raise TraceError("a tensor is gone through", where=f"{_caller()}, '{self.name}'", hint="hooks have no loops; read elements")

    def __bool__(self) -> bool:
        raise TraceError("the truth of a tensor is asked for", where=f"{_caller()}, '{self.name}'", hint="read an element")


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


def _infix(sign: str, left: object, right: object) -> Term:
    return Term("infix", sign, (left, right))


def where(condition: Operand, yes: Operand, no: Operand) -> Term:
    """``yes`` where the condition holds, else ``no``; both are part of the expression."""
    return Term("select", "where", (condition, yes, no))


def rot(x: Term) -> Term:
    """The rotary partner of the element ``x`` that a `query` or `key` hook transforms."""
    if not (isinstance(x, Term) and x._kind == "input" and x._text == "x"):
        raise TraceError(f"is {x!r}; allowed: the input x", where=f"{_caller()}, rot")
    return Term("input", "rot(x)", ())


def u32(value: int) -> Term:
    """A number of 32 bits without a sign."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or not 0 <= value < 2**32:
        raise TraceError(f"is {value!r}; allowed: 0..4294967295", where=f"{_caller()}, u32")
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

Hook: TypeAlias = Callable[..., Any]


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
    trace = _Trace(_lathe.HookBuilder(normalizer == "softmax", rotary == "interleaved", rotary_dims))
    for name, function in functions.items():
        if name not in inputs:
            raise SpecError(f"unknown hook; allowed: {', '.join(inputs)}", where=name)
        trace.add(name, function, inputs[name])
    return trace.finish()


class _Trace:
    """Builds hooks out of terms: each term once, however often it is used."""

    def __init__(self, builder: _lathe.HookBuilder) -> None:
        self.builder = builder
        self.nodes: dict[int, int | None] = {}  # by the identity of terms, which `terms` keeps alive
        self.terms: list[Term] = []
        self.lines: dict[int, str] = {}
        self.declared: dict[str, tuple[int, Any]] = {}  # params and tensors by name, with what was declared
        self.problems: list[str] = []
        self.hook = ""

    def add(self, hook: str, function: Hook, allowed: list[str]) -> None:
        self.hook = hook
        if isinstance(function, Term | int | float):
            result: Any = function
        elif callable(function):
            result = function(*self.arguments(hook, function, allowed))
        else:
            raise SpecError(f"is {function!r}; allowed: a function", where=hook, hint="lathe.expr.parse takes text")
        if not isinstance(result, Term | numbers.Real):
            raise TraceError(f"gives {result!r}; allowed: a traced value or a number", where=hook)
        node = self.node(result)
        if node is not None:
            self.builder.set(hook, node)

    def arguments(self, hook: str, function: Hook, allowed: list[str]) -> list[Term]:
        try:
            parameters = list(inspect.signature(function).parameters.values())
        except (TypeError, ValueError) as error:
            raise TraceError("is a function whose parameters cannot be read", where=hook) from error
        names = [name for name in allowed if name != "rot(x)"]
        terms = []
        for parameter in parameters:
            if parameter.default is not parameter.empty:
                continue  # a value that the function brings itself
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.KEYWORD_ONLY):
                raise TraceError(f"has the parameter {parameter}; allowed: positional ones", where=hook)
            if parameter.name not in names:
                raise TraceError(f"has a parameter '{parameter.name}'; allowed inputs: {', '.join(names)}", where=hook)
            terms.append(Term("input", parameter.name, ()))
        return terms

    def finish(self) -> Hooks:
        if self.problems:
            raise TraceError("\n".join(self.problems))
        errors = []
        for is_error, hook, node, message, hint in self.builder.findings():
            if is_error:
                line = self.lines.get(node, "") if node is not None else ""
                place = ", ".join(part for part in (hook or "declarations", line) if part)
                errors.append(f"{place}: {message}" + (f" ({hint})" if hint else ""))
        if errors:
            raise SpecError("\n".join(errors), where="hooks")
        return self.builder.finish()

    def node(self, value: object) -> int | None:
        """The place of a value; None, with a problem noted, when it has none."""
        if not isinstance(value, Term):
            return self.constant(value)
        if id(value) not in self.nodes:
            self.terms.append(value)
            self.nodes[id(value)] = None  # terms cannot hold themselves; a failed one stays None
            self.nodes[id(value)] = self.made(value)
        return self.nodes[id(value)]

    def constant(self, value: object) -> int | None:
        if isinstance(value, bool) or type(value).__name__ == "bool":
            return self.builder.boolean(bool(value))
        if isinstance(value, numbers.Integral):
            whole = int(value)
            if not -(2**31) <= whole < 2**32:
                return self.problem(f"the number {whole} is outside of 32 bits", "")
            return self.builder.i32(whole) if whole < 2**31 else self.builder.u32(whole)
        if isinstance(value, SupportsFloat) and not isinstance(value, str | bytes) and getattr(value, "ndim", 0) == 0:
            number = float(value)
            if math.isnan(number):
                return self.problem("a number is NaN; allowed: numbers and inf", "")
            return self.builder.f32(number)
        return self.problem(
            f"an operand is a {type(value).__name__}; allowed: traced values and numbers", "lathe.expr.tensor declares arrays"
        )

    def made(self, term: Term) -> int | None:
        kind = term._kind
        if kind == "input":
            node: int | None = self.builder.input(term._text)
        elif kind == "u32":
            node = self.builder.u32(term._args[0])
        elif kind == "param":
            index = self.param(term)
            node = None if index is None else self.builder.param_node(index)
        else:
            node = self.operator(term)
        if node is not None:
            self.lines.setdefault(node, term._line)
        return node

    def operator(self, term: Term) -> int | None:
        operands = term._args[1:] if term._kind == "read" else term._args
        found = [self.node(operand) for operand in operands]
        nodes = [node for node in found if node is not None]
        if len(nodes) != len(found):
            return None
        build = self.builder
        if term._kind == "read":
            index = self.tensor(term._args[0])
            if index is None:
                return None
            node, problem, hint = build.read(index, nodes)
        elif term._kind == "prefix":
            node, problem, hint = build.prefix(term._text, nodes[0])
        elif term._kind == "infix":
            node, problem, hint = build.infix(self.sign(term._text, nodes), nodes[0], nodes[1])
        elif term._kind == "select":
            node, problem, hint = build.select(nodes[0], nodes[1], nodes[2])
        else:
            node, problem, hint = build.call(term._text, nodes)
        return node if node is not None else self.problem(problem, hint, term._line)

    def sign(self, text: str, nodes: list[int]) -> str:
        """Python's & and | join conditions too, and its ^ tells whether they differ."""
        if text in ("&", "|", "^") and all(self.builder.type_of(node) == "bool" for node in nodes):
            return {"&": "&&", "|": "||", "^": "!="}[text]
        return text

    def param(self, term: Term) -> int | None:
        return self.declaration(term._text, ("param", *term._args), lambda: self.builder.param(term._text, *term._args))

    def tensor(self, tensor: Tensor) -> int | None:
        axes: list[str | int | tuple[int]] = []
        for axis in tensor.axes:
            if isinstance(axis, Term):
                index = self.param(axis)
                if index is None:
                    return None
                axes.append((index,))
            else:
                axes.append(axis if isinstance(axis, str) else int(axis))
        what = ("tensor", tensor.elem, tuple(axes), tensor.summary, tensor.sorted)
        return self.declaration(
            tensor.name, what, lambda: self.builder.tensor(tensor.name, tensor.elem, axes, tensor.summary, tensor.sorted)
        )

    def declaration(self, name: str, what: tuple[Any, ...], declare: Callable[[], int]) -> int | None:
        if name not in self.declared:
            self.declared[name] = (declare(), what)
        index, known = self.declared[name]
        if known != what:
            return self.problem(f"'{name}' is declared twice, as {_words(known)} and as {_words(what)}", "give them two names")
        return index

    def problem(self, message: str, hint: str, line: str = "") -> int | None:
        """Notes a problem of the hook that is traced; there is no node."""
        place = f"{self.hook}, {line}" if line else self.hook
        text = f"{place}: {message}" + (f" ({hint})" if hint else "")
        if text not in self.problems:
            self.problems.append(text)
        return None


def _words(declaration: tuple[Any, ...]) -> str:
    return " ".join(str(part) for part in declaration if part not in (None, False))
