"""From functions to hooks: one call of each function, and what it did as nodes."""

from __future__ import annotations

import inspect
import numbers
import traceback
from collections.abc import Callable
from typing import Any, SupportsFloat, TypeAlias

from lathe import _lathe
from lathe._lathe import Hooks
from lathe._terms import Tensor, Term
from lathe.errors import SpecError, TraceError

Hook: TypeAlias = Callable[..., Any]


class Trace:
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
            result = self.call(hook, function, allowed)
        else:
            raise SpecError(f"is {function!r}; allowed: a function", where=hook, hint="lathe.expr.parse takes text")
        if not isinstance(result, Term | numbers.Real):
            raise TraceError(f"gives {result!r}; allowed: a traced value or a number", where=hook)
        node = self.cuda(result) if isinstance(result, Term) and result._kind == "cuda" else self.node(result)
        if node is not None:
            self.builder.set(hook, node)

    def call(self, hook: str, function: Hook, allowed: list[str]) -> Any:
        arguments = self.arguments(hook, function, allowed)
        try:
            return function(*arguments)
        except TypeError as error:  # of numpy, PyTorch and others, which take no terms
            if isinstance(error, TraceError):
                raise
            line = traceback.extract_tb(error.__traceback__)[-1]
            raise TraceError(
                f"{error}; allowed: operators, and functions of lathe.expr",
                where=f"{hook}, {line.filename.rsplit('/', 1)[-1]}:{line.lineno}",
            ) from error

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
            node, problem, hint = self.builder.f32(float(value))
            return node if node is not None else self.problem(problem, hint)
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
        elif term._kind == "cuda":
            node, problem, hint = None, "unsafe_cuda is a part of an expression; allowed: all of a hook", ""
        else:
            node, problem, hint = build.call(term._text, nodes)
        return node if node is not None else self.problem(problem, hint, term._line)

    def cuda(self, term: Term) -> int | None:
        """CUDA text that is all of the hook."""
        found = [self.node(operand) for operand in term._args]
        nodes = [node for node in found if node is not None]
        if len(nodes) != len(found):
            return None
        node, problem, hint = self.builder.cuda(self.hook, term._text, nodes)
        if node is None:
            return self.problem(problem, hint, term._line)
        self.lines.setdefault(node, term._line)
        return node

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
        qualities = (tensor.summary, tensor.sorted, tensor.range)
        return self.declaration(
            tensor.name,
            ("tensor", tensor.elem, tuple(axes), *qualities),
            lambda: self.builder.tensor(tensor.name, tensor.elem, axes, *qualities),
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
