"""What bench/gauntlet times through the operators of PyTorch, on small rows: results are right, and wrong ones are seen."""

import pathlib
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")
import lathe.torch as lt  # noqa: E402
from devices import DEVICE  # noqa: E402

BENCH = pathlib.Path(__file__).resolve().parents[2] / "bench"
sys.path.insert(0, str(BENCH))
from gauntlet_lib import rows, torch_op  # noqa: E402

LAYOUTS = {"ragged": rows.RAGGED, "page16": rows.PAGE_16, "page1": rows.PAGE_1, "page16/no_split": rows.PAGE_16}


def row(qo_lens, kv_lens):
    return rows.Row("0", "small", 2, 4, 64, qo_lens, kv_lens, "", LAYOUTS, rows.UNCUT)


ROWS = {"prefill": row((33,), (40,)), "decode": row((1,) * 4, (20, 16, 1, 300)), "mixed": row((20, 1, 1), (20, 37, 5))}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ROWS)
def test_results(name, layout):
    problem = torch_op.Problem(torch, ROWS[name], layout, DEVICE)
    assert problem.check()["not_written"] == problem.out.numel()
    problem.run()
    assert problem.check()["ok"], problem.check()
    problem.v += 0.02 * problem.v.abs().mean()
    assert not problem.check()["ok"]  # these are not the values that were read
    problem.run()
    assert problem.check()["ok"]
    problem.out[-1, 0, 5] = torch.nan
    assert problem.check()["not_written"] == 1 and not problem.check()["ok"]


@pytest.mark.skipif(DEVICE != "cuda", reason="events and graphs are a GPU's")
@pytest.mark.parametrize("layout", ["ragged", "page16"])
def test_figures(layout):
    figures = torch_op.measure(torch, ROWS["mixed"], layout)
    assert figures["check"]["ok"] and figures["graph_check"]["ok"]
    assert all(figures[name]["median"] > 0 for name in ("us", "graph_us")) and figures["host_us"]["mean"] > 0


def test_the_operators_are_loaded_without_the_package():
    """As where the package has no module for the Python at hand."""
    program = (
        "import sys, torch; from gauntlet_lib import rows, torch_op; torch.ops.load_library(sys.argv[1]);"
        "row = rows.Row('0', '', 2, 4, 64, (3,), (9,), '', {'ragged': rows.RAGGED});"
        "problem = torch_op.Problem(torch, row, 'ragged', 'cpu'); problem.run();"
        "assert problem.check()['ok'] and 'lathe' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-B", "-c", program, lt.library()], cwd=BENCH, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
