"""Everything public has a docstring that names each parameter, and what the stub says of the C++ module is what help() shows."""

import ast
import functools
import inspect
import pathlib
import re
from dataclasses import is_dataclass

import lathe
import pytest
from lathe import _lathe

MODULES = (lathe, lathe.cache, lathe.cli, lathe.errors, lathe.expr, lathe.spec)
STUB = pathlib.Path(__file__).resolve().parents[2] / "python/lathe/_lathe.pyi"


def text_of(value):
    """Its own docstring, without the line of parameters that pybind11 writes at the head."""
    value = getattr(value, "__func__", value)
    text = inspect.cleandoc(getattr(value, "__doc__", None) or "")
    return re.sub(r"^\w+\(.*\) -> .*\n*", "", text)


def members_of(cls):
    """Public methods and properties, and those that wrap them."""
    kinds = (property, functools.cached_property, functools.partialmethod, staticmethod, classmethod)
    for name, found in vars(cls).items():
        if not name.startswith("_") and (inspect.isroutine(found) or isinstance(found, kinds)):
            yield name, found


def undocumented(module):
    """Names of the module's, and their methods and properties, without a docstring."""
    if not module.__doc__:
        yield module.__name__
    for name in module.__all__:
        value, place = getattr(module, name), f"{module.__name__}.{name}"
        if isinstance(value, functools.partial):
            value = value.func
        if inspect.isclass(value):
            # What dataclass() writes by itself says nothing.
            if not text_of(value) or value.__doc__.startswith(f"{name}("):
                yield place
            for member, found in members_of(value):
                if isinstance(found, functools.partialmethod):
                    found = found.func
                named = re.search(rf"^{member}\b.* : ", text_of(value), re.M)  # among the attributes
                if not text_of(found) and not (isinstance(found, property) and named):
                    yield f"{place}.{member}"
        elif callable(value) and not text_of(value):
            yield place


def sections_of(text):
    """The sections of a numpydoc docstring by name, each as the names at the left of its entries."""
    found, names = {}, None
    lines = text.splitlines()
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        if line and below == "-" * len(line):
            names = found.setdefault(line, [])
        elif names is not None and line and line[0] not in " -":
            names += [name.lstrip("*") for name in line.split(" : ")[0].split(", ")]
    return found


def reach(path, roots):
    """What a dotted name means where a docstring stands."""
    if path.startswith("lathe."):
        path, roots = path.removeprefix("lathe."), (lathe,)
    for root in roots:
        if (value := functools.reduce(lambda x, name: getattr(x, name, None), path.split("."), root)) is not None:
            return value
    raise LookupError(f"a docstring refers to {path}, which is not there")


def told(text, roots):
    """Parameters, and sections, that a docstring has, with those of "Parameters [and results and errors] are those of `X`"."""
    sections = sections_of(text)
    names, there = {*sections.get("Parameters", ())}, {*sections}
    for what, paths in re.findall(r"(Parameters[^.]*?) are those of ((?:`[\w.]+`(?:, | and )?)+)", text):
        for path in re.findall(r"`([\w.]+)`", paths):
            their_names, their_sections = told(text_of(reach(path, roots)), roots)
            names |= their_names
            there |= {section for word, section in (("results", "Returns"), ("errors", "Raises")) if word in what} & their_sections
    return names, there


def faults_of(place, text, signature, roots, code=""):
    """Parameters that the text passes over, entries that are no parameters, results and errors of which nothing is said."""
    taken = [name for name in signature.parameters if name not in ("self", "cls") and not name.startswith("_")]
    names, there = told(text, roots)
    yield from (f"{place}: {name} is missing" for name in taken if name not in names)
    if not any(x.kind is x.VAR_KEYWORD for x in signature.parameters.values()):  # which may be told one by one
        yield from (f"{place}: {name} is no parameter" for name in sections_of(text).get("Parameters", ()) if name not in taken)
    if taken and "Returns" not in there and signature.return_annotation not in ("None", None, signature.empty):
        yield f"{place}: Returns is missing"
    if re.search(r"^ +raise \w+\(", code, re.M) and "Raises" not in there:
        yield f"{place}: Raises is missing"


def function_faults(place, function, roots, text=None):
    code = inspect.getsource(function) if hasattr(function, "__code__") and function.__code__.co_filename != "<string>" else ""
    return faults_of(place, text_of(function) if text is None else text, inspect.signature(function), roots, code)


def incomplete(module, *roots):
    """What the docstrings of a module's functions, of its classes and of their methods do not tell."""
    for name in module.__all__:
        value, place = getattr(module, name), f"{module.__name__}.{name}"
        if isinstance(value, functools.partial):
            value = value.func
        if not inspect.isclass(value):
            if callable(value) and not inspect.isbuiltin(value):
                yield from function_faults(place, value, (module, *roots))
        elif not issubclass(value, Exception) and value.__module__ != "lathe._lathe":  # whose texts are the stub's
            text = text_of(value)
            if "__init__" in vars(value) and not re.search(r"\b[Mm]ade by\b", text):
                text = text.replace("Attributes\n----------", "Parameters\n----------") if is_dataclass(value) else text
                yield from function_faults(place, value.__init__, (value, module, *roots), text)
            for base in value.__mro__:
                for member, found in members_of(base) if base.__module__.startswith("lathe.") else ():
                    found = getattr(found, "func", getattr(found, "__func__", found))
                    if inspect.isfunction(found):
                        yield from function_faults(f"{place}.{member}", found, (value, module, *roots))


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_everything_public_is_documented(module):
    assert list(undocumented(module)) == []
    assert list(incomplete(module, lathe)) == []


def test_everything_public_of_torch_is_documented():
    pytest.importorskip("torch")
    import lathe.compat.flashinfer as flashinfer
    import lathe.torch

    parts = (flashinfer.cascade, flashinfer.decode, flashinfer.page, flashinfer.prefill, flashinfer.quantization)
    modules = (lathe.torch, flashinfer, *parts)
    assert [place for module in modules for place in undocumented(module)] == []
    assert [fault for module in modules for fault in incomplete(module, flashinfer, lathe)] == []


def test_everything_public_of_transformers_is_documented():
    pytest.importorskip("torch")
    import lathe.frontends.transformers as transformers

    assert [*undocumented(transformers), *incomplete(transformers, lathe)] == []


def test_methods_name_their_sources():
    pytest.importorskip("torch")
    import lathe.compat.flashinfer as flashinfer
    import lathe.torch as lt

    computes = (lathe.attention, lathe.Attention, lathe.expr.rope, lt.attention, lt.Envelope, lt.append)
    for value in (*computes, flashinfer.merge_states, flashinfer.MultiLevelCascadeAttentionWrapper):
        assert re.search(r"arXiv \d{4}\.\d{5}", text_of(value)), value


def signature_of(node):
    """The signature of a function in the stub."""
    args = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg)
    names = [inspect.Parameter(x.arg, inspect.Parameter.KEYWORD_ONLY) for x in args if x is not None]
    return inspect.Signature(names, return_annotation=ast.unparse(node.returns))


def test_the_stub_tells_of_each_parameter():
    faults = []
    for node in ast.parse(STUB.read_text()).body:
        for item in (node, *getattr(node, "body", [])):
            if not isinstance(item, ast.ClassDef | ast.FunctionDef) or not (text := ast.get_docstring(item)):
                continue
            function = next((x for x in getattr(item, "body", []) if getattr(x, "name", "") == "__init__"), item)
            if isinstance(function, ast.FunctionDef):
                faults += faults_of(item.name, text, signature_of(function), (lathe,))
    assert faults == []


def test_the_stub_has_the_same_texts():
    seen = 0
    for node in ast.parse(STUB.read_text()).body:
        for holder, item in [
            (_lathe, node),
            *((getattr(_lathe, getattr(node, "name", "_"), None), x) for x in getattr(node, "body", [])),
        ]:
            if isinstance(item, ast.ClassDef | ast.FunctionDef) and (text := ast.get_docstring(item)):
                assert text_of(getattr(holder, item.name)) == text, item.name
                seen += 1
    assert seen > 15
