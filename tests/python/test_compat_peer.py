"""`lathe compat`: outcomes of a checkout's test files, on a checkout that is made here."""

import subprocess
import sys

import pytest

pytest.importorskip("torch")
from lathe.compat import peer_tests  # noqa: E402

HELPERS = """
from flashinfer.utils import FP4Tensor, get_compute_capability
from flashinfer.jit import JitSpec
from flashinfer.quantization.nvfp4 import quantize


def modules(kinds) -> list[JitSpec] | None:
    return quantize(kinds)
"""

TESTS = """
import subprocess
import sys
import pytest
import torch
import flashinfer
from flashinfer.decode import fast_decode_plan
from tests.test_helpers.helpers import get_compute_capability, modules


@pytest.mark.parametrize("kv_len", [7, 9, 10**6])
@pytest.mark.parametrize("num_heads", [2, 4])
def test_decode(kv_len, num_heads):
    assert get_compute_capability(torch.device("cuda:0"))[0] >= 8
    q = torch.randn(num_heads, 64, device="cuda:0", dtype=torch.float16)
    k = torch.randn(kv_len, num_heads, 64).to("cuda").half()
    v = torch.randn(kv_len, num_heads, 64).cuda().half().to(0)
    s = torch.einsum("hd,khd->hk", q.double(), k.double()) / 8
    o = flashinfer.single_decode_with_kv_cache(q, k, v)
    torch.testing.assert_close(o.double(), torch.einsum("hk,khd->hd", s.softmax(-1), v.double()), rtol=1e-2, atol=1e-2)


def test_wrong():
    x = torch.ones(3, device=torch.device("cuda:0"))
    assert flashinfer.packbits(x).tolist() == [1]


def test_absent():
    flashinfer.rmsnorm(torch.ones(3))


def test_stand_in():
    modules(3)


def test_refused():
    flashinfer.single_prefill_with_kv_cache(*[torch.ones(3, 2, 64, device="cuda").half()] * 3, kv_cache_sf=1)


def test_capture():
    graph, x = torch.cuda.CUDAGraph(), torch.zeros(3, device="cuda")
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream), torch.cuda.graph(graph):
        y = x[1:] * 2 + torch.empty_like(x)[1:].fill_(1)
    x += 3
    graph.replay()
    assert y.tolist() == [7, 7]


def test_without_a_gpu():
    torch.cuda.Event()


def test_another_process():
    done = subprocess.run([sys.executable, "-c", "import flashinfer"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_its_own_error():
    raise RuntimeError("out of luck")


def test_skip():
    torch.cuda.synchronize()
    pytest.skip("no")
"""


@pytest.fixture
def checkout(tmp_path):
    for name, text in (("test_helpers/helpers.py", HELPERS), ("attention/test_page.py", TESTS)):
        file = tmp_path / "tests" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        (file.parent / "__init__.py").touch()
        file.write_text(text)
    (tmp_path / "tests" / "__init__.py").touch()
    (tmp_path / "tests" / "conftest.py").write_text("raise RuntimeError('it must not be read')")
    (tmp_path / "flashinfer").mkdir()
    (tmp_path / "flashinfer" / "__init__.py").write_text("raise RuntimeError('it must not be imported')")
    return tmp_path


def run(root, file="tests/attention/test_page.py", **given):
    return peer_tests.run_file(root, file, **{"limit": 0, "seed": 1, "size": 1e6, "seconds": 120, **given})


def test_outcomes(checkout):
    outcome = run(checkout)
    assert outcome.counts == {"passed": 5, "failed": 2, "unsupported": 5, "skipped": 1, "large": 2, "unreached": 0}, outcome.lines
    kinds = {case.rsplit("::", 1)[1]: (kind, why) for case, kind, why in outcome.lines}
    assert {name for name, (kind, _) in kinds.items() if kind == "failed"} == {"test_wrong", "test_its_own_error"}
    assert "flashinfer.quantization.nvfp4.quantize: is called" in kinds["test_stand_in"][1]
    assert "kv_cache_sf: is 1; allowed: None" in kinds["test_refused"][1] and "rmsnorm" in kinds["test_absent"][1]


def test_time_and_files_that_need_what_is_not_there(checkout):
    (checkout / "tests" / "slow.py").write_text("import time\n\ndef test_slow():\n    time.sleep(60)\n")
    assert run(checkout, "tests/slow.py", seconds=10).counts["unreached"] == 1
    (checkout / "tests" / "broken.py").write_text("import nothing_of_that_name\n")
    outcome = run(checkout, "tests/broken.py")
    assert outcome.counts["skipped"] == 1 and "nothing_of_that_name" in outcome.lines[0][2]


def test_command(checkout):
    """The table, and a draw that is the same again."""
    drawn = run(checkout, limit=5, seed=3)
    assert sum(drawn.counts.values()) == 7  # two of them too large
    options = ["--limit", "5", "--seed", "3", "--size", "1e6", "--show"]
    command = [sys.executable, "-m", "lathe", "compat", "--flashinfer", str(checkout)]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    columns = ["passed", "failed", "unsupported", "skipped", "large", "unreached"]
    assert lines[0] == "seed 3" and lines[1].split() == columns
    assert lines[2].split() == ["tests/attention/test_page.py", *(str(drawn.counts[name]) for name in columns)]
    assert len(lines) == 4 + len(drawn.lines) and lines[-1].split() == ["all", *lines[2].split()[1:]]
    assert done.returncode == (1 if drawn.counts["failed"] else 0)
    done = subprocess.run([*command[:5], "/nowhere"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "/nowhere: has no tests; allowed: a checkout of FlashInfer" in done.stderr
