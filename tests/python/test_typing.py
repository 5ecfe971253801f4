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


def mypy(*arguments, cwd):
    options = ["--strict", "--python-version", "3.11", "--cache-dir", str(cwd / "mypy"), "--no-error-summary"]
    # PyTorch is left out: it takes mypy longer than all the rest.
    (cwd / "mypy.ini").write_text(
        "[mypy]\nmypy_path = " + str(ROOT / "python") + "\n[mypy-torch.*]\nfollow_imports = skip\n"
        "ignore_missing_imports = True\n[mypy-ml_dtypes.*]\nignore_missing_imports = True\n"
    )
    command = [sys.executable, "-m", "mypy", "--config-file", str(cwd / "mypy.ini"), *options, *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def test_mypy(tmp_path):
    bad = [f"import lathe\nimport lathe.expr as le\n{line}\n" for line in BAD]
    (tmp_path / "good.py").write_text(GOOD)
    for i, text in enumerate(bad):
        (tmp_path / f"bad{i}.py").write_text(text)
    checked = mypy("-p", "lathe", cwd=tmp_path)
    assert checked.returncode == 0, checked.stdout
    done = mypy("good.py", *(f"bad{i}.py" for i in range(len(bad))), cwd=tmp_path)
    assert "good.py" not in done.stdout, done.stdout
    for i, word in enumerate(BAD.values()):
        assert any(line.startswith(f"bad{i}.py") and word in line for line in done.stdout.splitlines()), done.stdout


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
        assert own == {member for member in members if not member.startswith("_")}, name


def test_everything_public_is_documented():
    import lathe
    import lathe.expr

    for module in (lathe, lathe.expr, lathe.cache, lathe.cli, lathe.errors, lathe.spec):
        assert inspect.getdoc(module)
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isfunction(value) and value.__module__.startswith("lathe") and "_call.<locals>" not in value.__qualname__:
                assert inspect.getdoc(value), f"{module.__name__}.{name}"
