"""mypy --strict over the package and over programs as users write them; the stub of the C++ module against the module."""

import inspect
import pathlib
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


CONFIG = """
[mypy]
mypy_path = {package}:{programs}
# PyTorch and transformers are left out: they take mypy longer than all the rest.
[mypy-torch.*,transformers.*]
follow_imports = skip
ignore_missing_imports = True
[mypy-ml_dtypes.*]
ignore_missing_imports = True
"""


def test_mypy(tmp_path):
    (tmp_path / "mypy.ini").write_text(CONFIG.format(package=ROOT / "python", programs=tmp_path))
    (tmp_path / "good.py").write_text(GOOD)
    modules = ["-p", "lathe", "-m", "good"]
    for i, line in enumerate(BAD):
        (tmp_path / f"bad{i}.py").write_text(f"import lathe\nimport lathe.expr as le\n{line}\n")
        modules += ["-m", f"bad{i}"]
    options = ["--config-file", "mypy.ini", "--strict", "--python-version", "3.11", "--cache-dir", "cache", "--no-error-summary"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, *modules], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    lines = done.stdout.splitlines()
    assert not [line for line in lines if not line.startswith("bad")], done.stdout + done.stderr
    for i, word in enumerate(BAD.values()):
        assert any(line.startswith(f"bad{i}.py") and word in line for line in lines), done.stdout


def test_the_stub_is_the_module():
    import ast

    from lathe import _lathe

    tree = ast.parse((ROOT / "python/lathe/_lathe.pyi").read_text())
    stub = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    public = {name for name in vars(_lathe) if not name.startswith("_")}
    assert public == set(stub)
    for name, node in stub.items():
        if not isinstance(node, ast.ClassDef):
            continue
        members = {item.name for item in node.body if isinstance(item, ast.FunctionDef)}
        own = {member for member in vars(getattr(_lathe, name)) if not member.startswith("_")}
        # The stub may be ahead by a field that the module is about to have.
        assert own <= {member for member in members if not member.startswith("_")}, name


def test_everything_public_is_documented():
    import lathe
    import lathe.expr

    for module in (lathe, lathe.expr, lathe.cache, lathe.cli, lathe.errors, lathe.spec):
        assert inspect.getdoc(module)
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isfunction(value) and value.__module__.startswith("lathe") and "_call.<locals>" not in value.__qualname__:
                assert inspect.getdoc(value), f"{module.__name__}.{name}"
