"""The operators of torch.ops.lathe on CPU tensors."""

import itertools
import subprocess
import sys

import lathe
import numpy as np
import pytest

torch = pytest.importorskip("torch")
import lathe.torch as lt  # noqa: E402
from reference import attend_batch, worst  # noqa: E402

SPEC = lathe.AttentionSpec(
    q_dtype="f16", o_dtype="f16", group_size=2, head_dim_qk=64, head_dim_vo=64, layout="ragged", mask="causal"
)
BOUNDS = lt.Bounds(num_kv_heads=2, max_batch=4, max_qo_tokens=24, max_kv_entries=120)


def draw(rng, *shape, dtype=torch.float16):
    return torch.from_numpy(rng.standard_normal(shape).astype(np.float32)).to(dtype)


def i32(*numbers):
    return torch.tensor(numbers, dtype=torch.int32)


def batch_of(rng, qo_lens, kv_lens):
    qo, kv = np.cumsum([0, *qo_lens]), np.cumsum([0, *kv_lens])
    return i32(*qo), i32(*kv)


def expected_of(q, k, v, qo, kv, **options):
    keys = [k[a:b].float().numpy() for a, b in itertools.pairwise(kv.tolist())]
    values = [v[a:b].float().numpy() for a, b in itertools.pairwise(kv.tolist())]
    return attend_batch(q.float().numpy(), keys, values, qo.tolist(), **options)


def test_attention(rng):
    qo, kv = batch_of(rng, [1, 6], [30, 9])
    q, k, v = draw(rng, 7, 4, 64), draw(rng, 39, 2, 64), draw(rng, 39, 2, 64)
    o, lse = lt.attention(q, k, v, qo_indptr=qo, kv_indptr=kv, mask="causal_window", window=5, lse="ln", soft_cap=3.0)
    expected, expected_lse = expected_of(q, k, v, qo, kv, mask="causal_window", window=5, soft_cap=3.0)
    assert o.dtype == torch.float16 and worst(o.numpy(), expected) < 2e-3
    assert np.max(np.abs(lse.numpy() - expected_lse)) < 1e-3


def test_bfloat16_pages(rng):
    pages, q = draw(rng, 4, 2, 16, 2, 64, dtype=torch.bfloat16), draw(rng, 2, 4, 64, dtype=torch.bfloat16)
    table = torch.tensor([[2, 1], [3, 0]])
    o = lt.attention(q, pages, qo_indptr=[0, 1, 2], block_table=table, seq_lens=[20, 3])
    for request, (ids, length) in enumerate([([2, 1], 20), ([3], 3)]):
        k, v = (pages[ids, i].reshape(-1, 2, 64)[:length].float().numpy() for i in (0, 1))
        expected, _ = attend_batch(q[request : request + 1].float().numpy(), [k], [v], [0, 1])
        assert worst(o[request : request + 1].float().numpy(), expected) < 1.2e-2


def step(rng, envelope, qo_lens, kv_lens, on_device, run=None):
    """One batch through an envelope, compared with the reference."""
    qo, kv = batch_of(rng, qo_lens, kv_lens)
    q, k, v = draw(rng, 24, 4, 64), draw(rng, 120, 2, 64), draw(rng, 120, 2, 64)
    out = torch.full_like(q, 7)
    (envelope.plan_on_device if on_device else envelope.plan)(qo_indptr=qo, kv_indptr=kv)
    (run or envelope.run)(q, k, v, out)
    rows = int(qo[-1])
    expected, _ = expected_of(q[:rows], k, v, qo, kv, mask="causal")
    assert worst(out[:rows].numpy(), expected) < 2e-3
    assert (out[rows:] == 7).all()


@pytest.mark.parametrize("on_device", [False, True])
def test_one_envelope_serves_every_batch(rng, on_device):
    envelope = lt.Envelope(SPEC, BOUNDS)
    for qo_lens, kv_lens in [([1, 1, 1, 1], [30, 20, 9, 61]), ([24], [120]), ([], []), ([0, 5], [4, 5])]:
        step(rng, envelope, qo_lens, kv_lens, on_device)


def test_opcheck(rng):
    envelope = lt.Envelope(SPEC, BOUNDS)
    qo, kv = batch_of(rng, [3, 1], [17, 30])
    q, k, v = draw(rng, 24, 4, 64), draw(rng, 120, 2, 64), draw(rng, 120, 2, 64)
    text, numbers, workspace = SPEC.to_json(), BOUNDS.numbers(), envelope.workspace
    envelope.plan_on_device(qo_indptr=qo, kv_indptr=kv)
    checks = {
        "attention_into": (
            *(q[:4], k[:47], v[:47], torch.zeros_like(q[:4]), None, qo, kv, None, None, None, text, 0, 0.0, 0.0),
            *([], "", [], "", 1.0, 1.0, [], ""),
        ),
        "attention": (q[:4], k[:47], v[:47], qo, kv, None, None, None, text, 0, 0.0, 0.0),
        "prepare_workspace": (workspace, text, numbers),
        "plan": (workspace, qo, kv, None, None, 0, text, numbers, [], ""),
        "plan_on_device": (workspace, envelope._scratch, qo, kv, None, None, 0, text, numbers),
        "run": (q, k, v, torch.zeros_like(q), None, workspace, None, text, numbers, 0.0, 0.0, [], "", [], "", 1.0, 1.0, [], ""),
        "sizes": (q, text, numbers),
    }
    checked_elsewhere = {"append"}  # test_torch_append.py
    assert set(checks) | checked_elsewhere == {
        name.split("::")[1] for name in torch._C._dispatch_get_all_op_names() if name.startswith("lathe::")
    }
    for name, args in checks.items():
        torch.library.opcheck(getattr(torch.ops.lathe, name).default, args)


HOOKS = "tensor start: i32[TOK]; param cap: f32; mask = kv_pos >= start[tok]; logits = cap * tanh(score / cap)"


def test_hooks(rng):
    """Tensors and params by name, through one batch and through an envelope, whether the plan knows the mask or not."""
    spec = SPEC.replace(hooks=HOOKS, mask="none", lse="ln")
    qo, kv = batch_of(rng, [3, 1], [17, 30])
    q, k, v = draw(rng, 24, 4, 64), draw(rng, 120, 2, 64), draw(rng, 120, 2, 64)
    start = torch.zeros(24, dtype=torch.int32)
    start[:4] = i32(2, 3, 16, 28)
    tensors, params = {"start": start}, {"cap": 2.5}
    expected = [
        attend_batch(q[i : i + 1].float().numpy(), [k[a:b].float().numpy()], [v[a:b].float().numpy()], [0, 1], soft_cap=2.5)
        for i, (a, b) in enumerate([(2, 17), (3, 17), (16, 17), (45, 47)])
    ]
    o, lse = torch.zeros_like(q), torch.zeros(24, 4)
    lt.attention_into(spec.to_json(), q[:4], k, v, o[:4], lse[:4], qo_indptr=qo, kv_indptr=kv, tensors=tensors, params=params)
    envelope = lt.Envelope(spec, BOUNDS)
    for copies in (None, tensors):
        out = torch.zeros_like(q)
        envelope.plan(qo_indptr=qo, kv_indptr=kv, tensors=copies)
        envelope.run(q, k, v, out, lse=torch.zeros(24, 4), tensors=tensors, params=params)
        assert torch.equal(out[:4], o[:4])
    for i, (row, log_sum_exp) in enumerate(expected):
        assert worst(o[i : i + 1].numpy(), row) < 2e-3 and np.max(np.abs(lse[i].numpy() - log_sum_exp[0])) < 1e-3
    call = (spec.to_json(), q[:4], k, v, o[:4], lse[:4])
    lens = dict(qo_indptr=qo, kv_indptr=kv)
    refused(r"start: is missing", lt.attention_into, *call, **lens, params=params)
    refused(r"cap: is missing", lt.attention_into, *call, **lens, tensors=tensors)
    refused(
        r"start: has elements of Long; allowed: Int",
        lt.attention_into,
        *call,
        **lens,
        tensors={"start": start.long()},
        params=params,
    )
    refused(
        r"tensor_names: has end, which the hooks do not declare",
        lt.attention_into,
        *call,
        **lens,
        tensors={"end": start},
        params=params,
    )
    refused(r"start.*4", lt.attention_into, *call, **lens, tensors={"start": start[:3]}, params=params)


def test_compile_without_breaks_or_recompiles(rng):
    envelope = lt.Envelope(SPEC, BOUNDS)
    compiles = []

    def backend(graph, example_inputs):
        compiles.append(graph)
        return graph

    @torch.compile(fullgraph=True, backend=backend)
    def run(q, k, v, out):
        return envelope.run(q * 1, k, v, out) + 0

    for i in range(50):
        kv_lens = [1 + (i * 7) % 30, 20, 1 + i]
        step(rng, envelope, [1, 1 + i % 5, 1], kv_lens, on_device=False, run=run)
    assert len(compiles) == 1


def test_compile_with_inductor_and_new_lengths(rng):
    compiles = []

    def backend(graph, example_inputs):
        compiles.append(graph)
        return graph

    @torch.compile(fullgraph=True, dynamic=True, backend=backend)
    def attend(q, k, v, qo, kv):
        return lt.attention(q, k, v, qo_indptr=qo, kv_indptr=kv, mask="causal") * 2

    for n in (3, 5, 9, 12):
        qo, kv = batch_of(rng, [n, 1, n], [n + 4, 30, n])
        q, k, v = draw(rng, 2 * n + 1, 4, 64), draw(rng, 2 * n + 34, 2, 64), draw(rng, 2 * n + 34, 2, 64)
        expected, _ = expected_of(q, k, v, qo, kv, mask="causal")
        assert worst(attend(q, k, v, qo, kv).numpy() / 2, expected) < 2e-3
    assert len(compiles) <= 1


def test_compile_of_a_spec_that_is_given(rng):
    q, k, v, text = draw(rng, 4, 4, 64), draw(rng, 6, 2, 64), draw(rng, 6, 2, 64), SPEC.to_json()

    @torch.compile(fullgraph=True, backend="eager")
    def attend(out, qo, kv):
        return lt.attention_into(text, q, k, v, out, qo_indptr=qo, kv_indptr=kv) + 0

    lens = dict(qo_indptr=i32(0, 4), kv_indptr=i32(0, 6))
    assert torch.equal(attend(torch.zeros_like(q), *lens.values()), lt.attention(q, k, v, **lens, mask="causal"))


def test_compile_with_new_scales(rng):
    """From the second on, a number is a symbol of the graph."""
    q, kv = draw(rng, 4, 4, 64), draw(rng, 6, 2, 64)

    @torch.compile(fullgraph=True, backend="eager")
    def attend(q, scale):
        return lt.attention(q, kv, kv, qo_indptr=[0, 4], kv_indptr=[0, 6], sm_scale=scale)

    for scale in (0.1, 0.2, 0.3):
        assert torch.equal(attend(q, scale), lt.attention(q, kv, kv, qo_indptr=[0, 4], kv_indptr=[0, 6], sm_scale=scale))


def refused(match, call, *args, error=RuntimeError, **kwargs):
    with pytest.raises(error, match=match):
        call(*args, **kwargs)


def test_refusals(rng):
    q, kv = draw(rng, 4, 4, 64), draw(rng, 6, 2, 64)
    one = dict(qo_indptr=[0, 4], kv_indptr=[0, 6])
    refused(r"q: requires a gradient", lt.attention, q.clone().requires_grad_(), kv, kv, **one, error=lathe.SpecError)
    refused(
        r"q: has elements of torch.float32; allowed: torch.float16", lt.attention, q.float(), kv, kv, **one, error=lathe.SpecError
    )
    refused(r"q: has 3 heads", lt.attention, q[:, :3], kv, kv, **one, error=lathe.SpecError)
    refused(r"shapes of q and k", lt.attention, q[0], kv, kv, **one, error=lathe.SpecError)
    refused(r"splits: unknown field", lt.attention, q, kv, kv, splits=1, **one, error=lathe.SpecError)
    refused(r"k: has elements of BFloat16; allowed: Half", lt.attention, q, kv.bfloat16(), kv, **one)
    refused(r"qo_indptr: has elements of torch.float32", lt.attention, q, kv, kv, qo_indptr=torch.zeros(2), error=lathe.SpecError)
    refused(r"q: has 4 rows, the plan covers up to 5", lt.attention, q, kv, kv, qo_indptr=[0, 5], kv_indptr=[0, 6])
    refused(r"v.*has 5", lt.attention, q, kv, kv[:5], **one)
    text = SPEC.to_json()

    def run(*args):
        torch.ops.lathe.run(*args, [], "", [], "", 1.0, 1.0, [], "")

    memory = torch.zeros(1024, dtype=torch.uint8)
    refused(r"bounds: has 1 entries, must have 7", run, q, kv, kv, q, None, memory, None, text, [2], 0.0, 0.0)
    refused(
        r"workspace: has 1024 bytes; allowed: at least", run, q, kv, kv, q, None, memory, None, text, BOUNDS.numbers(), 0.0, 0.0
    )
    refused(r"workspace: has elements of Half", run, q, kv, kv, q, None, q, None, text, BOUNDS.numbers(), 0.0, 0.0)
    refused(r"attention spec", run, q, kv, kv, q, None, memory, None, "{", BOUNDS.numbers(), 0.0, 0.0)
    envelope = lt.Envelope(SPEC, BOUNDS)
    refused(
        r"5 .*max_batch|max_batch.*5|batch.* 5", envelope.plan, qo_indptr=i32(0, 1, 2, 3, 4, 5), kv_indptr=i32(0, 1, 2, 3, 4, 5)
    )
    refused(r"q: has 4 rows", envelope.run, q, kv, kv, q)


def test_lengths_that_nothing_reads(rng):
    q, kv, pages = draw(rng, 4, 4, 64), draw(rng, 6, 2, 64), draw(rng, 2, 16, 2, 64)
    one = dict(qo_indptr=i32(0, 4), kv_indptr=i32(0, 6))
    csr = dict(qo_indptr=[0, 4], kv_indptr=[0, 1], kv_indices=i32(0), last_page_len=[16])
    envelope = lt.Envelope(SPEC, BOUNDS)
    for name in ("seq_lens", "last_page_len"):
        given, ragged = {name: i32(3)}, rf"{name}: is given, but the layout is ragged; allowed: None"
        refused(ragged, lt.attention, q, kv, kv, **one, **given, error=lathe.SpecError)
        refused(ragged, lt.attention_into, SPEC.to_json(), q, kv, kv, q, **one, **given, error=lathe.SpecError)
        refused(ragged, envelope.plan, **one, **given, error=lathe.SpecError)
        refused(ragged, envelope.plan_on_device, **one, **given, error=lathe.SpecError)
    refused(r"seq_lens: .*index is csr", lt.attention, q, pages, pages, **csr, seq_lens=[3], error=lathe.SpecError)
    both = dict(qo_indptr=[0, 4], block_table=i32(0)[None], seq_lens=[16], kv_indices=i32(1))
    refused(r"kv_indices: .*index is table", lt.attention, q, pages, pages, **both, error=lathe.SpecError)


def test_numbers_past_32_bits(rng):
    """Their low 32 bits are those of a batch that could run."""
    q, kv, far = draw(rng, 4, 4, 64), draw(rng, 6, 2, 64), torch.tensor([0, 4 + 2**32])
    holds = r"qo_indptr: holds 0\.\.4294967300; allowed: numbers of 32 bits"
    for given in (far, far.tolist()):
        refused(holds, lt.attention, q, kv, kv, qo_indptr=given, kv_indptr=[0, 6], error=lathe.SpecError)
    refused(r"qo_indptr: has elements of torch.float32", lt.attention, q, kv, kv, qo_indptr=[0, 4.7], error=lathe.SpecError)
    pages = dict(kv_indptr=[0, 1], last_page_len=[16], kv_indices=torch.tensor([2**32]))
    k = kv[None, :2]
    refused(r"kv_indices: holds 4294967296", lt.attention, q, k, k, qo_indptr=[0, 4], **pages, error=lathe.SpecError)

    @torch.compile(fullgraph=True, backend="eager")
    def attend(qo):
        return lt.attention(q, kv, kv, qo_indptr=qo, kv_indptr=[0, 6])

    near = torch.tensor([0, 4])
    assert torch.equal(attend(near), lt.attention(q, kv, kv, qo_indptr=near, kv_indptr=[0, 6]))
    refused(r"qo_indptr: holds numbers that are not of 32 bits", attend, far)


def test_arguments_of_the_wrong_kind(rng):
    q, kv, pages = draw(rng, 4, 4, 64), draw(rng, 6, 2, 64), draw(rng, 2, 16, 2, 64)
    one = dict(qo_indptr=i32(0, 4), kv_indptr=i32(0, 6))
    call, envelope = (SPEC.to_json(), q, kv, kv), lt.Envelope(SPEC, BOUNDS)
    owned = q.clone().requires_grad_()
    for match, function, args, given in (
        (r"q: is \[1\]; allowed: a torch.Tensor", lt.attention, ([1], kv, kv), one),
        (r"q: is None; allowed: a torch.Tensor", lt.attention, (None, kv, kv), one),
        (r"v: is 3; allowed: a torch.Tensor", lt.attention, (q, kv, 3), one),
        (r"sm_scale: is 0.0; allowed: finite and > 0", lt.attention, (q, kv, kv), dict(one, sm_scale=0.0)),
        (r"soft_cap: is -1; allowed: finite and > 0", lt.attention, (q, kv, kv), dict(one, soft_cap=-1)),
        (r"out: requires a gradient", lt.attention_into, (*call, owned), one),
        (r"out: requires a gradient", envelope.run, (q, kv, kv, owned), {}),
        (r"spec: is a AttentionSpec; allowed: text", lt.attention_into, (SPEC, *call[1:], q), one),
        (r"spec: is 'x'; allowed: AttentionSpec", lt.Envelope, ("x", BOUNDS), {}),
        (r"bounds: is 7; allowed: Bounds", lt.Envelope, (SPEC, 7), {}),
        (r"qo_indptr: is \[0, 4\]; allowed: a torch.Tensor", envelope.plan, (), dict(qo_indptr=[0, 4])),
        (r"k: is \[1\]; allowed: a torch.Tensor", lt.append, ([1], kv, pages, pages), {}),
        (r"order: is 'hnd'; allowed: 'NHD', 'HND'", lt.append, (kv, kv, pages, pages), dict(order="hnd")),
        (
            r"order: is 'hnd'; allowed: 'NHD', 'HND'",
            *(lt.attention, (q, pages, pages)),
            dict(one, kv_indices=i32(0), last_page_len=[6], order="hnd"),
        ),
    ):
        refused(match, function, *args, **given, error=lathe.SpecError)


def test_the_library_loads_by_itself_and_needs_no_python_or_cuda():
    program = f"import torch; torch.ops.load_library({lt.library()!r}); print(torch.ops.lathe.run.default._schema)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "Tensor(a!) out" in done.stdout, done.stderr
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


def test_cost_of_a_call(rng, record_property):
    """Figures for docs/STATUS.md; a bound that only a blunder passes."""
    import time

    envelope = lt.Envelope(SPEC, BOUNDS)
    envelope.plan(qo_indptr=i32(0), kv_indptr=i32(0))
    q, k, v, x = draw(rng, 24, 4, 64), draw(rng, 120, 2, 64), draw(rng, 120, 2, 64), torch.zeros(1)
    out, text, numbers, no_hooks = torch.zeros_like(q), SPEC.to_json(), BOUNDS.numbers(), ([], "", [], "", 1.0, 1.0, [], "")

    def cost(call, *args, n=300):
        call(*args)
        best = float("inf")
        for _ in range(5):
            start = time.perf_counter()
            for _ in range(n):
                call(*args)
            best = min(best, (time.perf_counter() - start) / n)
        return best * 1e6

    add = cost(torch.ops.aten.add_.Tensor, x, x)
    sizes = cost(torch.ops.lathe.sizes, q, text, numbers)
    run = cost(torch.ops.lathe.run, q, k, v, out, None, envelope.workspace, None, text, numbers, 0.0, 0.0, *no_hooks)
    print(f"add_ {add:.2f} us, sizes (look-ups alone) {sizes:.2f} us, run of an empty batch on the host executor {run:.2f} us")
    assert sizes < 40 * add
