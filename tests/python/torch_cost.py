"""A program: what a planned call through PyTorch costs beside `aten::add_` on one element, as JSON.

torch_cost.py LIBRARY [rounds]: LIBRARY holds the null executor, whose launches return at once. Calls take turns, in blocks that
are short beside the time for which a busy machine lets a process run, so that the median is of blocks that ran through.
"""

import ctypes
import json
import random
import statistics
import sys
import time

import torch

ctypes.CDLL(sys.argv[1], mode=ctypes.RTLD_GLOBAL)  # before the operators: its host device is then theirs

import lathe  # noqa: E402
import lathe.torch as lt  # noqa: E402

CALLS = 50
rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 240
torch.set_num_threads(1)

spec = lathe.AttentionSpec(
    q_dtype="f16", o_dtype="f16", group_size=2, head_dim_qk=64, head_dim_vo=64, layout="ragged", mask="causal"
)
bounds = lt.Bounds(num_kv_heads=2, max_batch=4, max_qo_tokens=24, max_kv_entries=120)
envelope = lt.Envelope(spec, bounds)
lengths = torch.tensor([0, 1, 5], dtype=torch.int32)
envelope.plan(qo_indptr=lengths, kv_indptr=lengths * 20)
q, k, out, x = torch.zeros(24, 4, 64).half(), torch.zeros(120, 2, 64).half(), torch.full((24, 4, 64), 7.0).half(), torch.zeros(1)
operator, arguments = torch.ops.lathe.run.default, (q, k, k, out, None, envelope.workspace, None, bounds.envelope(spec))
add = torch.ops.aten.add_.Tensor

calls = {"add_": lambda: add(x, x), "operator": lambda: operator(*arguments), "Envelope.run": lambda: envelope.run(q, k, k, out)}
times = {name: [] for name in calls}
turns = random.Random(0)  # their order changes, or the same one would always come last in that time
for _ in range(rounds):
    for name, call in turns.sample(list(calls.items()), len(calls)):
        start = time.perf_counter()
        for _ in range(CALLS):
            call()
        times[name].append((time.perf_counter() - start) / CALLS * 1e6)
ratios = {name: statistics.median(a / b for a, b in zip(times[name], times["add_"], strict=True)) for name in times}
figures = {"microseconds": {name: statistics.median(of) for name, of in times.items()}, "ratios": ratios}
print(json.dumps({**figures, "launched": not bool((out == 7).all())}))
