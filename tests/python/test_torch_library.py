"""What the operators' library needs: of other libraries, and of PyTorch. One binary serves 2.11 with CUDA and 2.13 without."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")
import lathe.torch as lt  # noqa: E402

# What PyTorch's stable interface is declared by; its functions have the version in which they came around them.
SHIM = "torch/csrc/stable/c/shim.h"
# The oldest that is served (docs/pytorch.md), one that must be, and one whose functions would be too new for either.
OLDEST, SERVED, NEWER = (2, 10), (2, 11), (2, 13)


def test_it_loads_by_itself():
    program = f"import torch; torch.ops.load_library({lt.library()!r}); print(torch.ops.lathe.run.default._schema)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "Tensor(a!) out" in done.stdout, done.stderr


def test_it_needs_no_library_of_python_or_cuda():
    needed = subprocess.run(["readelf", "-d", lt.library()], capture_output=True, text=True, check=True).stdout
    names = [line.split("[")[1].rstrip("]") for line in needed.splitlines() if "NEEDED" in line]
    allowed = (
        "liblathe.so",
        "libtorch_cpu.so",
        "libc10.so",
        "libc.so",
        "libm.so",
        "libgcc_s.so",
        "libstdc++.so",
        "ld-linux",
        "libdl.so",
    )
    assert "liblathe.so" in " ".join(names) and all(name.startswith(allowed) for name in names), names


def declared(version):
    """The functions of the stable interface that PyTorch `version` has, as the headers of this one say."""
    compiler = os.environ.get("LATHE_CXX") or shutil.which("c++") or "g++"
    include = pathlib.Path(torch.__file__).parent / "include"
    target = f"-DTORCH_TARGET_VERSION={version[0] << 56 | version[1] << 48:#x}"
    source = f"#include <{SHIM}>\n"
    command = [compiler, "-E", "-P", "-x", "c++", "-std=c++20", target, f"-I{include}", "-"]
    text = subprocess.run(command, input=source, capture_output=True, text=True, check=True).stdout
    return set(re.findall(r"\b((?:aoti_)?torch_\w+)\s*\(", text))


def imported():
    """Names that the library leaves to others, less those of the C and C++ libraries, which have a version in theirs."""
    listed = subprocess.run(["nm", "-D", "--undefined-only", lt.library()], capture_output=True, text=True, check=True).stdout
    found = [line.split() for line in listed.splitlines()]
    return {name for kind, name in found if kind == "U" and "@" not in name}


def test_it_imports_functions_of_the_oldest_pytorch_alone():
    oldest, served, newer = (declared(version) for version in (OLDEST, SERVED, NEWER))
    assert oldest <= served < newer and "torch_library_def_with_tags" in newer - served  # versions are told apart
    names = imported()
    from_torch = {name for name in names if not re.match(r"_Z(TI|TS|TV|N|NK)5lathe", name)}
    assert from_torch and names - from_torch
    # Neither Python's (Py...), nor CUDA's, nor C++ ones of PyTorch (_ZN2at..., _ZN3c10..., _ZN5torch...).
    assert from_torch <= oldest, sorted(from_torch - oldest)
