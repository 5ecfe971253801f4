"""Values that record what is done to them: what hooks are traced with."""

from __future__ import annotations

import pathlib
import sys
from dataclasses import dataclass
from typing import Any, Literal, NoReturn, SupportsIndex, TypeAlias

from lathe.errors import TraceError

Type: TypeAlias = Literal["i32", "u32", "f32", "bool"]
Elem: TypeAlias = Literal["f32", "f16", "bf16", "e4m3", "e5m2", "i32", "i8", "u8", "u32", "bool"]
Operand: TypeAlias = "Term | int | float | bool"

# Frames of these are not the user's program.
_OWN = {str(pathlib.Path(__file__).with_name(name)) for name in ("_functions.py", "_terms.py", "_trace.py", "expr.py")}


def caller() -> str:
    """The line of the user's program that is running: "file.py:12"."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename in _OWN:
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
        self._line = caller()

    # Operators of the language.
    def __add__(self, other: Operand) -> Term:
        return infix("+", self, other)

    def __radd__(self, other: Operand) -> Term:
        return infix("+", other, self)

    def __sub__(self, other: Operand) -> Term:
        return infix("-", self, other)

    def __rsub__(self, other: Operand) -> Term:
        return infix("-", other, self)

    def __mul__(self, other: Operand) -> Term:
        return infix("*", self, other)

    def __rmul__(self, other: Operand) -> Term:
        return infix("*", other, self)

    def __truediv__(self, other: Operand) -> Term:
        return infix("/", self, other)

    def __rtruediv__(self, other: Operand) -> Term:
        return infix("/", other, self)

    def __floordiv__(self, other: Operand) -> Term:
        return infix("//", self, other)

    def __rfloordiv__(self, other: Operand) -> Term:
        return infix("//", other, self)

    def __mod__(self, other: Operand) -> Term:
        return infix("%", self, other)

    def __rmod__(self, other: Operand) -> Term:
        return infix("%", other, self)

    def __lshift__(self, other: Operand) -> Term:
        return infix("<<", self, other)

    def __rlshift__(self, other: Operand) -> Term:
        return infix("<<", other, self)

    def __rshift__(self, other: Operand) -> Term:
        return infix(">>", self, other)

    def __rrshift__(self, other: Operand) -> Term:
        return infix(">>", other, self)

    def __and__(self, other: Operand) -> Term:
        return infix("&", self, other)

    def __rand__(self, other: Operand) -> Term:
        return infix("&", other, self)

    def __or__(self, other: Operand) -> Term:
        return infix("|", self, other)

    def __ror__(self, other: Operand) -> Term:
        return infix("|", other, self)

    def __xor__(self, other: Operand) -> Term:
        return infix("^", self, other)

    def __rxor__(self, other: Operand) -> Term:
        return infix("^", other, self)

    def __lt__(self, other: Operand) -> Term:
        return infix("<", self, other)

    def __le__(self, other: Operand) -> Term:
        return infix("<=", self, other)

    def __gt__(self, other: Operand) -> Term:
        return infix(">", self, other)

    def __ge__(self, other: Operand) -> Term:
        return infix(">=", self, other)

    def __eq__(self, other: object) -> Term:  # type: ignore[override]
        return infix("==", self, other)

    def __ne__(self, other: object) -> Term:  # type: ignore[override]
        return infix("!=", self, other)

    def __neg__(self) -> Term:
        return Term("prefix", "-", (self,))

    def __pos__(self) -> Term:
        return self

    def __invert__(self) -> Term:
        return Term("prefix", "!", (self,))

    def __abs__(self) -> Term:
        return Term("call", "abs", (self,))

    def __pow__(self, power: int) -> Term:
        return Term("call", "powi", (self, power))

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
        raise TraceError(what, where=f"{caller()}, {self._shown()}", hint=hint)

    def _shown(self) -> str:
        if self._kind in ("input", "param"):
            return f"'{self._text}'"
        return f"the value of '{self._text}'" + (f" from {self._line}" if self._line != caller() else "")

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
    range: tuple[float, float] | None

    def __getitem__(self, index: Operand | tuple[Operand, ...]) -> Term:
        return Term("read", self.name, (self, *(index if isinstance(index, tuple) else (index,))))

    def __iter__(self) -> NoReturn:
        raise TraceError("a tensor is gone through", where=f"{caller()}, '{self.name}'", hint="hooks have no loops; read elements")

    def __bool__(self) -> bool:
        raise TraceError("the truth of a tensor is asked for", where=f"{caller()}, '{self.name}'", hint="read an element")


def infix(sign: str, left: object, right: object) -> Term:
    """``left sign right``."""
    return Term("infix", sign, (left, right))
