"""lathe.compat.flashinfer has the signatures of FlashInfer, as flashinfer_signatures.json holds them for one commit of it."""

import functools
import importlib
import inspect
import json
import pathlib
import subprocess
import sys

import pytest

pytest.importorskip("torch")
import lathe  # noqa: E402
import lathe.compat.flashinfer as flashinfer  # noqa: E402

RECORD = json.loads((pathlib.Path(__file__).parent / "flashinfer_signatures.json").read_text())
PACKAGE = "lathe.compat.flashinfer"


def found(name):
    """The object of "decode.BatchDecodeWithPagedKVCacheWrapper.run", as its class holds it."""
    module, *path = name.split(".")
    at = importlib.import_module(f"{PACKAGE}.{module}")
    for part in path:
        at = inspect.getattr_static(at, part)
    return at


def described(function):
    out = []
    for parameter in inspect.signature(function).parameters.values():
        entry = {"name": parameter.name, "kind": parameter.kind.name}
        if parameter.default is not inspect.Parameter.empty:
            entry["default"] = repr(parameter.default)
        out.append(entry)
    return out


@pytest.mark.parametrize("name", RECORD["signatures"])
def test_signature(name):
    recorded, mine = RECORD["signatures"][name], found(name)
    if not isinstance(recorded, str):
        assert described(mine) == recorded
    elif recorded == "property":
        assert isinstance(mine, property)
    elif recorded.startswith("alias of "):
        assert mine is found(name.rsplit(".", 1)[0] + "." + recorded.removeprefix("alias of "))
    else:
        assert isinstance(mine, functools.partialmethod) and recorded == "partial (run, return_lse=True)"
        assert mine.func is found(name.rsplit(".", 1)[0] + ".run") and mine.keywords == {"return_lse": True} and not mine.args


def test_the_record_names_its_source():
    assert RECORD["library"] == "FlashInfer" and RECORD["version"].count(".") == 2 and len(RECORD["commit"]) == 40
    names = set(RECORD["signatures"])
    assert {"prefill.single_prefill_with_kv_cache", "decode.BatchDecodeWithPagedKVCacheWrapper._plan_impl"} <= names and len(
        names
    ) > 50


def test_names_are_those_of_the_record_and_no_others():
    """Probes for what is not offered find nothing."""
    recorded = {name.split(".")[1] for name in RECORD["signatures"]} | {"single_prefill_with_kv_cache_return_lse"}
    modules = {"cascade", "decode", "page", "prefill", "quantization"}
    assert set(flashinfer.__all__) == recorded | modules | {"Unsupported", "install"}
    for module in modules:
        assert set(getattr(flashinfer, module).__all__) <= recorded
    for absent in ("BatchMLAPagedAttentionWrapper", "rmsnorm", "sampling", "jit", "append_paged_mla_kv_cache", "__version__"):
        assert not hasattr(flashinfer, absent)


def run(program):
    return subprocess.run([sys.executable, "-B", "-c", program], capture_output=True, text=True, check=False)


def test_install():
    program = f"""
import {PACKAGE} as mine
mine.install()
mine.install()
import flashinfer
from flashinfer.decode import fast_decode_plan
from flashinfer import merge_state
import flashinfer.prefill
assert flashinfer is mine and merge_state is mine.merge_state and flashinfer.prefill is mine.prefill
try:
    import flashinfer.sampling
except ImportError:
    print("absent")
"""
    assert run(program).stdout == "absent\n", run(program).stderr


def test_install_beside_flashinfer_itself():
    program = f"""
import sys, types
sys.modules["flashinfer"] = types.ModuleType("flashinfer")
import {PACKAGE} as mine
mine.install()
"""
    assert "flashinfer: was imported before; allowed: install() first" in run(program).stderr


def test_importing_lathe_does_not_import_it():
    assert run(f"import lathe, sys; print('{PACKAGE}' in sys.modules, 'torch' in sys.modules)").stdout == "False False\n"
    assert issubclass(flashinfer.Unsupported, lathe.SpecError) and issubclass(flashinfer.Unsupported, NotImplementedError)
