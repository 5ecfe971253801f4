"""mypy --strict over the package and over programs as users write them; the stub of the C++ module against the module."""

import ast
import pathlib
import re
import subprocess
import sys

import pytest

pytest.importorskip("mypy")
ROOT = pathlib.Path(__file__).resolve().parents[2]

GOOD = """
import numpy as np
import lathe
import lathe.expr as le

spec = lathe.AttentionSpec(group_size=4, mask="causal", layout={"kind": "paged", "page_size": 16}, split_kv={"fixed": 256})
kernel = lathe.Attention(spec)
plan = kernel.plan(num_kv_heads=2, qo_indptr=[0, 1], kv_indptr=np.array([0, 1]), kv_indices=[0], last_page_len=[3])
rows: int = plan.qo_tokens
window = le.param("W", "i32", range=(0, 100))
hooks: le.Hooks = le.hooks(mask=lambda q_pos, kv_pos: (kv_pos <= q_pos) & (q_pos - kv_pos < window))
report = lathe.warmup([spec], jobs=1, progress=lambda done, total, text: None)
names: list[str] = [name for name, error in report.failed if error.code == "compile_failed"]
"""

BAD = {
    "lathe.AttentionSpec(grup_size=4)": "grup_size",
    'lathe.AttentionSpec(mask="casual")': "mask",
    'lathe.AttentionSpec(layout={"kind": "paged", "page": 16})': "page",
    'lathe.Attention("spec")': "AttentionSpec",
    'le.param("W", "i64")': "i64",
    "lathe.warmup(3)": "Iterable",
}


# Pages whose snippets are typed throughout, and lines of theirs that are there to be refused.
DOCS = ("python", "variants", "kv-layouts", "sparse-layouts", "pytorch", "transformers", "compat-flashinfer")
PAGES = ("README.md", *(f"docs/{name}.md" for name in DOCS))
MEANT = {
    ("docs/python.md", "    lathe.AttentionSpec(grup_size=4)"): (
        'error: Unexpected keyword argument "grup_size" for "AttentionSpec"; did you mean "group_size"?  [call-arg]'
    ),
}

CONFIG = """
[mypy]
mypy_path = {package}:{programs}
# PyTorch and transformers are left out: they take mypy longer than all the rest.
[mypy-torch.*,transformers.*]
follow_imports = skip
ignore_missing_imports = True
[mypy-ml_dtypes.*,flashinfer.*]
ignore_missing_imports = True
"""


def test_mypy(tmp_path):
    (tmp_path / "mypy.ini").write_text(CONFIG.format(package=ROOT / "python", programs=tmp_path))
    (tmp_path / "good.py").write_text(GOOD)
    modules = ["-p", "lathe", "-m", "good"]
    for i, line in enumerate(BAD):
        (tmp_path / f"bad{i}.py").write_text(f"import lathe\nimport lathe.expr as le\n{line}\n")
        modules += ["-m", f"bad{i}"]
    meant = []
    for page in PAGES:
        snippets = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.M | re.S)
        name = f"page_{pathlib.Path(page).stem.lower().replace('-', '_')}"
        source = "\n".join(snippets)
        (tmp_path / f"{name}.py").write_text(source)
        modules += ["-m", name]
        written = enumerate(source.splitlines(), 1)
        meant += [f"{name}.py:{i}: {MEANT[page, line]}" for i, line in written if (page, line) in MEANT]
    assert len(meant) == len(MEANT)
    options = ["--config-file", "mypy.ini", "--strict", "--python-version", "3.11", "--cache-dir", "cache", "--no-error-summary"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, *modules], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    lines = done.stdout.splitlines()
    wrong = [line for line in lines if not line.startswith("bad") and "note:" not in line]
    assert wrong == meant, done.stdout + done.stderr
    for i, word in enumerate(BAD.values()):
        assert any(line.startswith(f"bad{i}.py") and word in line for line in lines), done.stdout


# What pybind11 adds to every class: its metaclass, and a constructor that refuses for those that have none.
OF_PYBIND11 = r"""
lathe\._lathe\.(AttentionSpec|Device|Engine|HookBuilder|Hooks|Plan|PreparedAttention|SparseLayout)
lathe\._lathe\.(Device|Hooks|Plan|SparseLayout)\.__init__
"""


def test_the_stub_is_the_module(tmp_path):
    (tmp_path / "mypy.ini").write_text(CONFIG.format(package=ROOT / "python", programs=tmp_path))
    (tmp_path / "allowed").write_text(OF_PYBIND11)
    command = [sys.executable, "-m", "mypy.stubtest", "lathe._lathe", "--concise", "--allowlist", "allowed"]
    done = subprocess.run([*command, "--mypy-config-file", "mypy.ini"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and not done.stdout, done.stdout + done.stderr


def parameters(function):
    """Names of an `ast.FunctionDef`, `=` after those with a default; without a name `arg0`, `arg1`, ..., as pybind11 has them."""
    given = function.args
    plain = [*given.posonlyargs, *given.args]
    nameless = len(given.posonlyargs)
    required = len(plain) - len(given.defaults)
    names = [("" if i < nameless else arg.arg, "=" if i >= required else "") for i, arg in enumerate(plain)]
    if plain and plain[0].arg == "self":
        names = names[1:]
    found = [(name or f"arg{i}") + default for i, (name, default) in enumerate(names)]
    found += ["*"] if given.kwonlyargs else []
    found += [arg.arg + ("=" if default else "") for arg, default in zip(given.kwonlyargs, given.kw_defaults, strict=True)]
    return found + (["**"] if given.kwarg else [])


def test_parameters_of_the_stub_are_those_of_the_module():
    """stubtest does not see them; pybind11 writes them at the head of docstrings."""
    from lathe import _lathe

    tree = ast.parse((ROOT / "python/lathe/_lathe.pyi").read_text())
    seen = []
    for node in ast.walk(tree):
        for function in getattr(node, "body", []) if isinstance(node, ast.Module | ast.ClassDef) else []:
            if not isinstance(function, ast.FunctionDef) or function.name in ("__eq__", "__hash__"):
                continue
            value = getattr(getattr(_lathe, node.name) if isinstance(node, ast.ClassDef) else _lathe, function.name)
            head = (value.__doc__ or "").split("\n")[0]
            if isinstance(value, property) or not head.startswith(f"{function.name}("):
                continue
            found = ast.parse(f"def {head}: ...").body[0]
            seen.append((head, parameters(found), parameters(function)))
    assert not [entry for entry in seen if entry[1] != entry[2]]
    assert len(seen) > 40
