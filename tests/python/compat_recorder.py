"""Which arguments the tests gave to lathe.compat.flashinfer: those that it took, and those that it refused.

Functions and methods are wrapped by the names of flashinfer_signatures.json. Only what a test calls itself is noted, not what one
function of the module asks of another. An argument counts when its value means something else than the default.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import json
import pathlib
import re

PACKAGE = "lathe.compat.flashinfer"
SIGNATURES = json.loads((pathlib.Path(__file__).parent / "flashinfer_signatures.json").read_text())["signatures"]

_MODULES = {symbol.split(".")[1]: symbol.split(".")[0] for symbol in SIGNATURES}

# Values beside the default that mean the same; an argument that is given one of them says nothing.
_SAME = {"logits_soft_cap": (0, 0.0), "rope_scale": (1.0,), "rope_theta": (1e4,), "v_scale": (1.0,), "o_scale": (1.0,)}


def is_default(name, value, default):
    if value is default or any(type(value) is type(same) and value == same for same in _SAME.get(name, ())):
        return True
    if type(value).__name__ == "dtype":
        value = str(value).removeprefix("torch.")
    return type(value) is type(default) and value == default


def original(symbol):
    """What a symbol is another name of, or itself."""
    recorded = SIGNATURES[symbol]
    if not isinstance(recorded, str) or recorded == "property":
        return symbol
    target = "run" if recorded.startswith("partial") else recorded.removeprefix("alias of ")
    return f"{symbol.rsplit('.', 1)[0]}.{target}"


def planners(symbol):
    """plan() hands what it got by keyword to _plan_impl(), whose arguments they are."""
    cls, method = symbol.rsplit(".", 1)
    return [[f"{cls}.plan"], [f"{cls}.begin_forward"]] if method == "_plan_impl" else []


def given_of(signature, args, kwargs):
    """Names of the arguments that say something."""
    try:
        bound = signature.bind(*args, **kwargs).arguments
    except TypeError:  # the call itself says so
        return set()
    found = set()
    for name, value in bound.items():
        parameter = signature.parameters[name]
        if parameter.kind is parameter.VAR_POSITIONAL or (
            parameter.default is not parameter.empty and not is_default(name, value, parameter.default)
        ):
            found.add(name)
    return found


class Recorder:
    """`served` and `refused` hold (symbol, parameter); `called` the symbols that were used and gave a result."""

    def __init__(self):
        self.called, self.served, self.refused = set(), set(), set()
        self._running = []
        self._undo = []

    def __enter__(self):
        package = importlib.import_module(PACKAGE)
        for module in {symbol.split(".")[0] for symbol in SIGNATURES}:
            self._wrap_module(module, importlib.import_module(f"{PACKAGE}.{module}"), package)
        return self

    def __exit__(self, *_):
        for holder, name, value in reversed(self._undo):
            setattr(holder, name, value)

    def as_json(self):
        return json.dumps({name: sorted(getattr(self, name)) for name in ("called", "served", "refused")}, indent=1)

    def _replace(self, holder, name, value):
        self._undo.append((holder, name, inspect.getattr_static(holder, name)))
        setattr(holder, name, value)

    def _wrap_module(self, module, found, package):
        classes = {}
        for symbol in SIGNATURES:
            at, name, *method = symbol.split(".")
            if at != module:
                continue
            if method:
                classes.setdefault(getattr(found, name), []).append(method[0])
                continue
            wrapped = self._wrapped(getattr(found, name), lambda args, symbol=symbol: symbol)
            for holder in (found, package):
                self._replace(holder, name, wrapped)
        for cls, methods in classes.items():
            for method in methods:
                self._wrap_method(cls, method)

    def _wrap_method(self, cls, method):
        owner = next(base for base in cls.__mro__ if method in vars(base))
        value = vars(owner)[method]
        if getattr(value, "noted", False) or getattr(getattr(value, "fget", None), "noted", False):
            return

        def symbol_of(args):
            """Of the class of the object, or of its nearest base with that method."""
            names = (f"{_MODULES.get(base.__name__)}.{base.__name__}.{method}" for base in type(args[0]).__mro__)
            return next((name for name in names if name in SIGNATURES), None)

        if isinstance(value, property):
            self._replace(owner, method, property(self._wrapped(value.fget, symbol_of)))
        elif isinstance(value, functools.partialmethod):
            call = functools.partial(value.func, **value.keywords)
            self._replace(owner, method, self._wrapped(call, symbol_of, inspect.signature(value.func)))
        else:
            self._replace(owner, method, self._wrapped(value, symbol_of))

    def _wrapped(self, function, symbol_of, signature=None):
        signature = signature or inspect.signature(function)

        def noted(*args, **kwargs):
            symbol = symbol_of(args)
            outermost = symbol is not None and self._running in ([], *planners(symbol))
            given = given_of(signature, args, kwargs) if outermost else set()
            self._running.append(symbol)
            try:
                result = function(*args, **kwargs)
            except Exception as error:
                where = getattr(error, "where", None)
                if where in given and re.match(rf"{where}: .*; allowed: ", str(error), re.S):
                    self.refused.add((original(symbol), where))
                raise
            finally:
                self._running.pop()
            if outermost:
                self.called.add(symbol)
                self.served |= {(original(symbol), name) for name in given}
            return result

        noted.noted = True
        noted.__signature__ = signature
        return noted
