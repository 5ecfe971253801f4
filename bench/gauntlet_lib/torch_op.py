"""Lathe's operators of PyTorch on the same workload as lathe-bench-gpu, called eagerly and replayed as a graph.

Runs as a program of its own: python3 -m gauntlet_lib.torch_op LIBRARY ROW LAYOUT prints one JSON object. The library is loaded by
itself (torch.ops.load_library): Lathe's Python package is not needed, so any Python that PyTorch runs in will do.
"""

import json
import math
import sys
import time
from itertools import accumulate

from gauntlet_lib.peers import median_us
from gauntlet_lib.rows import Row, row_by_id

SEED, CHECKED_ROWS, ROW_BOUND = 1, 16, 6e-3  # as lathe-bench-gpu has them
ALIGN = 256  # of workspaces
HOST_CALLS = 200


class Problem:
    """Random tensors, pages in random order, a plan in a workspace; planned once, as for lathe-bench-gpu."""

    def __init__(self, torch, row: Row, layout: str, device: str):
        self.torch, self.row, self.ops = torch, row, torch.ops.lathe
        spec = row.spec(layout)
        page = spec["layout"].get("page_size", 0)
        random = torch.Generator().manual_seed(SEED)
        there = torch.Generator(device).manual_seed(SEED)
        draw = lambda *shape: torch.randn(shape, generator=there, device=device, dtype=torch.bfloat16)  # noqa: E731
        self.q = draw(sum(row.qo_lens), row.qo_heads, row.head_dim)
        self.out = torch.full_like(self.q, math.nan)
        counts = [-(-n // page) for n in row.kv_lens] if page else row.kv_lens
        self.kv_indptr = [0, *accumulate(counts)]
        shape = (self.kv_indptr[-1], *([page] if page else []), row.kv_heads, row.head_dim)
        self.k, self.v = draw(*shape), draw(*shape)
        self.ids = torch.randperm(self.kv_indptr[-1], generator=random).int() if page else None
        bounds = [row.kv_heads, len(row.qo_lens), len(self.q), self.kv_indptr[-1], 0, 0, 0]
        envelope = ",".join(map(str, bounds)) + " " + json.dumps(spec)
        workspace_bytes, _ = self.ops.sizes(self.q, envelope).tolist()
        memory = torch.empty(workspace_bytes + ALIGN, dtype=torch.uint8, device=device)
        self.workspace = memory[-memory.data_ptr() % ALIGN :][:workspace_bytes]
        self.ops.prepare_workspace(self.workspace, envelope)
        i32 = lambda numbers: torch.tensor(numbers, dtype=torch.int32)  # noqa: E731
        last = i32([(n - 1) % page + 1 for n in row.kv_lens]) if page else None
        lengths = i32([0, *accumulate(row.qo_lens)]), i32(self.kv_indptr), last, None
        self.ops.plan(self.workspace, *lengths, 0, envelope)
        ids = None if self.ids is None else self.ids.to(device)
        self._arguments = (self.q, self.k, self.v, self.out, None, self.workspace, ids, envelope)
        self._run = self.ops.run.default

    def run(self) -> None:
        self._run(*self._arguments)

    def keys(self, request: int):
        """Of one request, [keys, heads, dim], in fp64 on the host."""
        begin, end = self.kv_indptr[request : request + 2]
        at = slice(begin, end) if self.ids is None else self.ids[begin:end].long().to(self.k.device)
        return tuple(x[at].cpu().double().reshape(-1, *x.shape[-2:])[: self.row.kv_lens[request]] for x in (self.k, self.v))

    def check(self) -> dict:
        """Looks at every element, and compares rows that are drawn with fp64."""
        torch, row = self.torch, self.row
        not_written, worst = int(self.out.isnan().sum()), 0.0
        random = torch.Generator().manual_seed(SEED + 1)
        begins = [0, *accumulate(row.qo_lens)]
        for _ in range(CHECKED_ROWS):
            token, head = (int(torch.randint(n, (), generator=random)) for n in self.q.shape[:2])
            request = next(i for i in range(len(row.qo_lens)) if token < begins[i + 1])
            k, v = (x[:, head // row.group] for x in self.keys(request))
            visible = row.kv_lens[request] - row.qo_lens[request] + token - begins[request] + 1
            score = k[:visible] @ self.q[token, head].cpu().double() * row.head_dim**-0.5
            exact = score.softmax(0) @ v[:visible]
            error = float((self.out[token, head].cpu().double() - exact).norm() / exact.norm())
            worst = math.inf if math.isnan(error) else max(worst, error)
        ok = not_written == 0 and worst <= ROW_BOUND
        return {"rows": CHECKED_ROWS, "worst_error": worst, "bound": ROW_BOUND, "not_written": not_written, "ok": ok}


def host_us(call, wait) -> dict:
    """What the caller waits for one call: the time of many that are queued one after the other, over their number."""
    wait()
    start = time.perf_counter()
    for _ in range(HOST_CALLS):
        call()
    elapsed = time.perf_counter() - start
    wait()
    return {"mean": 1e6 * elapsed / HOST_CALLS, "n": HOST_CALLS}


def captured(torch, call):
    """A graph of one call. The call was made before, so that its kernel is there."""
    graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize()
    with torch.cuda.graph(graph):
        call()
    return graph


def measure(torch, row: Row, layout: str) -> dict:
    problem = Problem(torch, row, layout, "cuda")
    problem.run()
    torch.cuda.synchronize()
    result = {"check": problem.check(), "torch": torch.__version__, "us": median_us(torch, problem.run)}
    result["host_us"] = host_us(problem.run, torch.cuda.synchronize)
    graph = captured(torch, problem.run)
    problem.out.fill_(math.nan)
    graph.replay()
    torch.cuda.synchronize()
    result["graph_check"] = problem.check()
    result["graph_us"] = median_us(torch, graph.replay)
    return result


def main(arguments: list[str]) -> dict:
    try:
        import torch
    except ImportError as error:
        return {"status": "skipped", "reason": f"no PyTorch: {error}"}
    if not torch.cuda.is_available():
        return {"status": "skipped", "reason": "PyTorch finds no GPU"}
    library, row, layout = arguments
    torch.ops.load_library(library)
    result = measure(torch, row_by_id(row), layout)
    right = result["check"]["ok"] and result["graph_check"]["ok"]
    return {"status": "ok", **result} if right else {"status": "failed", "reason": "the result is wrong", **result}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1:])))
