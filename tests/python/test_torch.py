"""The operators of torch.ops.lathe."""

import lathe
import numpy as np
import pytest

torch = pytest.importorskip("torch")
import lathe.torch as lt  # noqa: E402
from devices import DEVICE, traces  # noqa: E402
from reference import attend_batch, worst  # noqa: E402
from torch_batches import BOUNDS, SPEC, batch_of, draw, expected_of, host, i32, step  # noqa: E402


def test_attention(rng):
    qo, kv = batch_of(rng, [1, 6], [30, 9])
    q, k, v = draw(rng, 7, 4, 64), draw(rng, 39, 2, 64), draw(rng, 39, 2, 64)
    o, lse = lt.attention(q, k, v, qo_indptr=qo, kv_indptr=kv, mask="causal_window", window=5, lse="ln", soft_cap=3.0)
    expected, expected_lse = expected_of(q, k, v, qo, kv, mask="causal_window", window=5, soft_cap=3.0)
    assert o.dtype == torch.float16 and worst(host(o), expected) < 2e-3
    assert np.max(np.abs(host(lse) - expected_lse)) < 1e-3


def test_bfloat16_pages(rng):
    pages, q = draw(rng, 4, 2, 16, 2, 64, dtype=torch.bfloat16), draw(rng, 2, 4, 64, dtype=torch.bfloat16)
    table = torch.tensor([[2, 1], [3, 0]])
    o = lt.attention(q, pages, qo_indptr=[0, 1, 2], block_table=table, seq_lens=[20, 3])
    for request, (ids, length) in enumerate([([2, 1], 20), ([3], 3)]):
        k, v = (host(pages[ids, i].reshape(-1, 2, 64)[:length]) for i in (0, 1))
        expected, _ = attend_batch(host(q[request : request + 1]), [k], [v], [0, 1])
        assert worst(host(o[request : request + 1]), expected) < 1.2e-2


@pytest.mark.parametrize("on_device", [False, True])
def test_one_envelope_serves_every_batch(rng, on_device):
    envelope = lt.Envelope(SPEC, BOUNDS, DEVICE)
    for qo_lens, kv_lens in [([1, 1, 1, 1], [30, 20, 9, 61]), ([24], [120]), ([], []), ([0, 5], [4, 5])]:
        step(rng, envelope, qo_lens, kv_lens, on_device)


@traces
def test_opcheck(rng):
    envelope = lt.Envelope(SPEC, BOUNDS, DEVICE)
    qo, kv = batch_of(rng, [3, 1], [17, 30])
    q, k, v = draw(rng, 24, 4, 64), draw(rng, 120, 2, 64), draw(rng, 120, 2, 64)
    text, within, workspace = SPEC.to_json(), BOUNDS.envelope(SPEC), envelope.workspace
    on_device = (qo.to(DEVICE), kv.to(DEVICE))
    envelope.plan_on_device(qo_indptr=on_device[0], kv_indptr=on_device[1])
    checks = {
        "attention_into": (
            *(q[:4], k[:47], v[:47], torch.zeros_like(q[:4]), None, qo, kv, None, None, None, text, 0, 0.0, 0.0),
            *([], [], ""),
        ),
        "attention": (q[:4], k[:47], v[:47], qo, kv, None, None, None, text, 0, 0.0, 0.0),
        "prepare_workspace": (workspace, within),
        "plan": (workspace, qo, kv, None, None, 0, within, [], ""),
        "plan_on_device": (workspace, envelope._scratch, *on_device, None, None, 0, within),
        "run": (q, k, v, torch.zeros_like(q), None, workspace, None, within, 0.0, 0.0, [], [], ""),
        "sizes": (q, within),
    }
    checked_elsewhere = {"append"}  # test_torch_append.py
    assert set(checks) | checked_elsewhere == {
        name.split("::")[1] for name in torch._C._dispatch_get_all_op_names() if name.startswith("lathe::")
    }
    for name, args in checks.items():
        torch.library.opcheck(getattr(torch.ops.lathe, name).default, args)


HOOKS = "tensor start: i32[TOK]; param cap: f32; mask = kv_pos >= start[tok]; logits = cap * tanh(score / cap)"
CODES = {"kfmt": "i8", "kscale": "channel", "vfmt": "i8", "vscale": "token", "vzero": "token"}


@traces
@pytest.mark.parametrize("case", ["left out", "lse", "hooks", "scales"])
def test_opcheck_of_options(rng, case):
    """What calls may give, and leave out."""
    spec = {
        "left out": SPEC,
        "lse": SPEC.replace(lse="ln"),
        "hooks": SPEC.replace(hooks=HOOKS, mask="none"),
        "scales": SPEC.replace(**CODES),
    }[case]
    qo, kv = batch_of(rng, [3, 1], [17, 30])
    q, k, v = draw(rng, 24, 4, 64), draw(rng, 120, 2, 64), draw(rng, 120, 2, 64)
    hooks, options = ([], ""), ()
    if case == "hooks":
        hooks = ([torch.zeros(24, dtype=torch.int32)], "start")
        options = (0.25, 0.0, hooks[0], [2.5], "start,cap")
    elif case == "scales":
        k, v = ((40 * x).to(torch.int8) for x in (k, v))
        tables = [torch.full((2, 64), 0.5), torch.full((120, 2), 0.5), torch.full((120, 2), 3.0)]
        names = "k_scales.channel_scale,v_scales.token_scale,v_scales.zero,k_scales.scale,v_scales.scale"
        options = (0.0, 0.0, tables, [0.05, 0.05], names)
    lse = torch.zeros(24, 4) if case == "lse" else None
    envelope, text, within = lt.Envelope(spec, BOUNDS, DEVICE), spec.to_json(), BOUNDS.envelope(spec)
    envelope.plan(qo_indptr=qo, kv_indptr=kv)
    out = torch.zeros_like(q)
    written = [out] if lse is None else [out, lse]
    checks = {
        "plan": (
            envelope.workspace,
            qo,
            kv,
            None,
            None,
            0,
            within,
            *(([x.cpu() for x in hooks[0]], hooks[1]) if case == "hooks" else ()),
        ),
        "run": (q, k, v, out, lse, envelope.workspace, None, within, *options),
        "attention_into": (q, k, v, out, lse, qo, kv, None, None, None, text, 0, *options),
    }
    if case == "lse":
        checks["attention"] = (q[:4], k, v, qo, kv, None, None, None, text, 0, 0.0, 0.0)
    for name, args in checks.items():
        operator = getattr(torch.ops.lathe, name).default
        torch.library.opcheck(operator, args)
        for result in written:
            result.zero_()
        operator(*args)
        assert name in ("plan", "attention") or all((result[:4] != 0).any(dim=-1).all() for result in written)


def test_hooks(rng):
    """Tensors and params by name, through one batch and through an envelope, whether the plan knows the mask or not."""
    spec = SPEC.replace(hooks=HOOKS, mask="none", lse="ln")
    qo, kv = batch_of(rng, [3, 1], [17, 30])
    q, k, v = draw(rng, 24, 4, 64), draw(rng, 120, 2, 64), draw(rng, 120, 2, 64)
    start = torch.zeros(24, dtype=torch.int32)
    start[:4] = i32(2, 3, 16, 28)
    tensors, params = {"start": start}, {"cap": 2.5}
    expected = [
        attend_batch(host(q[i : i + 1]), [host(k[a:b])], [host(v[a:b])], [0, 1], soft_cap=2.5)
        for i, (a, b) in enumerate([(2, 17), (3, 17), (16, 17), (45, 47)])
    ]
    o, lse = torch.zeros_like(q), torch.zeros(24, 4)
    lt.attention_into(spec.to_json(), q[:4], k, v, o[:4], lse[:4], qo_indptr=qo, kv_indptr=kv, tensors=tensors, params=params)
    envelope = lt.Envelope(spec, BOUNDS, DEVICE)
    for copies in (None, {"start": start.cpu()}):
        out = torch.zeros_like(q)
        envelope.plan(qo_indptr=qo, kv_indptr=kv, tensors=copies)
        envelope.run(q, k, v, out, lse=torch.zeros(24, 4), tensors=tensors, params=params)
        assert torch.equal(out[:4], o[:4])
    for i, (row, log_sum_exp) in enumerate(expected):
        assert worst(host(o[i : i + 1]), row) < 2e-3 and np.max(np.abs(host(lse[i]) - log_sum_exp[0])) < 1e-3
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
        r"names: has end, which the hooks do not declare",
        lt.attention_into,
        *call,
        **lens,
        tensors={"end": start},
        params=params,
    )
    refused(r"start.*4", lt.attention_into, *call, **lens, tensors={"start": start[:3]}, params=params)


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
    refused(
        r"qo_indptr: has elements of torch.float32",
        lt.attention,
        q,
        kv,
        kv,
        qo_indptr=torch.zeros(2, device="cpu"),
        error=lathe.SpecError,
    )
    refused(r"q: has 4 rows, the plan covers up to 5", lt.attention, q, kv, kv, qo_indptr=[0, 5], kv_indptr=[0, 6])
    refused(r"v.*has 5", lt.attention, q, kv, kv[:5], **one)
    refused(r"qo_indptr: ends at 3, q has 4 rows; allowed: as many", lt.attention, q, kv, kv, qo_indptr=[0, 3], kv_indptr=[0, 6])
    for match, wrong in [
        (r"params: is 3; allowed: a mapping of names", dict(params=3)),
        (r"param cap: is '1'; allowed: a number", dict(params={"cap": "1"})),
        (r"tensors: is \[3\]; allowed: a mapping of names", dict(tensors=[3])),
        (r"order: is 'ABC'; allowed: 'NHD', 'HND'", dict(order="ABC")),
    ]:
        refused(match, lt.attention, q, kv, kv, **one, **wrong, error=lathe.SpecError)
    within, memory = BOUNDS.envelope(SPEC), torch.zeros(1024, dtype=torch.uint8)

    def run(workspace, envelope, *options):
        torch.ops.lathe.run(q, kv, kv, q, None, workspace, None, envelope, *options)

    numbers_first = r"must be num_kv_heads,max_batch,max_qo_tokens,max_kv_entries,max_kv_len,window,share_prefixes as whole"
    for text, found in [
        (SPEC.to_json(), 0),  # no bounds
        ("2 " + SPEC.to_json(), 0),
        ("2,1,4,6,0,0 " + SPEC.to_json(), 5),
        ("2,1,4,6,0,0,0,0 " + SPEC.to_json(), 6),
        ("2,1,4,6,0,0,0", 6),  # no spec
        ("2,1,4,six,0,0,0 " + SPEC.to_json(), 3),
        ("2,1,4,99999999999999999999,0,0,0 " + SPEC.to_json(), 3),
        ("", 0),
    ]:
        refused(rf"envelope: is .* with {found} numbers, {numbers_first}", run, memory, text)
    refused(r"bounds\[1\]: is 2147483648, must be in 0\.\.2147483647", run, memory, "2,2147483648,4,6,0,0,0 " + SPEC.to_json())
    refused(r"workspace: has 1024 bytes; allowed: at least", run, memory, within)
    refused(r"workspace: has elements of Half", run, q, within)
    refused(r"attention spec", run, memory, BOUNDS.envelope("{"))
    envelope = lt.Envelope(SPEC, BOUNDS, DEVICE)
    for tensors, numbers, names, said in [
        ([q], [], "", "0 names; allowed: 1"),
        ([], [1.0], "", "0 names; allowed: 1"),
        (None, None, "a", "1 names; allowed: 0"),
        ([q], [1.0], "k_scales.zero", "1 names; allowed: 2"),
        ([q], [], "k_scales.scale", "k_scales.scale; allowed: tables token_scale, channel_scale and zero"),
        ([], [1.0], "v_scales.zero", "v_scales.zero; allowed: the number scale"),
    ]:
        refused(f"names: has {said}", run, envelope.workspace, within, 0.0, 0.0, tensors, numbers, names)
    refused(
        r"5 .*max_batch|max_batch.*5|batch.* 5", envelope.plan, qo_indptr=i32(0, 1, 2, 3, 4, 5), kv_indptr=i32(0, 1, 2, 3, 4, 5)
    )
    envelope.plan(qo_indptr=i32(0, 4), kv_indptr=i32(0, 6))
    refused(r"q: has 4 rows", envelope.run, q, kv, kv, q)
    for match, wrong in [
        (r"param cap: is '1'; allowed: a number", dict(params={"cap": "1"})),
        (r"start: is None; allowed: a torch.Tensor", dict(tensors={"start": None})),
    ]:
        refused(match, envelope.run, q, kv, kv, q, **wrong, error=lathe.SpecError)
    refused(r"device: is 3.5; allowed: cpu or cuda", lt.Envelope, SPEC, BOUNDS, 3.5, error=lathe.SpecError)


def test_each_bound_reaches_the_operators(rng):
    """By the memory that it takes, or by what is then refused."""
    given = dict(num_kv_heads=2, max_batch=4, max_qo_tokens=24, max_kv_entries=120, max_kv_len=64)
    fixed, pages = SPEC.replace(split_kv={"fixed": 16}), SPEC.replace(layout={"kind": "paged"})

    def size(spec, **more):
        like = torch.empty(0, dtype=torch.uint8, device=DEVICE)
        return torch.ops.lathe.sizes(like, lt.Bounds(**{**given, **more}).envelope(spec))[0].item()

    for name, value in dict(num_kv_heads=4, max_batch=40, max_qo_tokens=2400, max_kv_len=4096).items():
        assert size(fixed, **{name: value}) > size(fixed), name
    assert size(pages, share_prefixes=True) > size(pages)
    refused(r"window: is 5, but the mask has no window", size, fixed, window=5)
    refused(r"window: is 0, must be >= 1", size, SPEC.replace(mask="window"))
    assert size(SPEC.replace(mask="window"), window=5) > 0
    q, kv = draw(rng, 24, 4, 64), draw(rng, 120, 2, 64)
    envelope = lt.Envelope(SPEC, lt.Bounds(**{**given, "max_kv_entries": 121}), DEVICE)
    envelope.plan(qo_indptr=i32(0, 24), kv_indptr=i32(0, 120))
    refused(r"k: has 120 rows, the plan covers up to 121", envelope.run, q, kv, kv, q)


def test_lengths_that_nothing_reads(rng):
    q, kv, pages = draw(rng, 4, 4, 64), draw(rng, 6, 2, 64), draw(rng, 2, 16, 2, 64)
    one = dict(qo_indptr=i32(0, 4), kv_indptr=i32(0, 6))
    csr = dict(qo_indptr=[0, 4], kv_indptr=[0, 1], kv_indices=i32(0).to(DEVICE), last_page_len=[16])
    envelope = lt.Envelope(SPEC, BOUNDS, DEVICE)
    for name in ("seq_lens", "last_page_len"):
        given, ragged = {name: i32(3)}, rf"{name}: is given, but the layout is ragged; allowed: None"
        refused(ragged, lt.attention, q, kv, kv, **one, **given, error=lathe.SpecError)
        refused(ragged, lt.attention_into, SPEC.to_json(), q, kv, kv, q, **one, **given, error=lathe.SpecError)
        refused(ragged, envelope.plan, **one, **given, error=lathe.SpecError)
        refused(ragged, envelope.plan_on_device, **one, **given, error=lathe.SpecError)
    refused(r"seq_lens: .*index is csr", lt.attention, q, pages, pages, **csr, seq_lens=[3], error=lathe.SpecError)
    both = dict(qo_indptr=[0, 4], block_table=i32(0)[None].to(DEVICE), seq_lens=[16], kv_indices=i32(1).to(DEVICE))
    refused(r"kv_indices: .*index is table", lt.attention, q, pages, pages, **both, error=lathe.SpecError)


def test_numbers_past_32_bits(rng):
    """Their low 32 bits are those of a batch that could run."""
    q, kv, far = draw(rng, 4, 4, 64), draw(rng, 6, 2, 64), torch.tensor([0, 4 + 2**32], device="cpu")
    holds = r"qo_indptr: holds 0\.\.4294967300; allowed: numbers of 32 bits"
    for given in (far, far.tolist()):
        refused(holds, lt.attention, q, kv, kv, qo_indptr=given, kv_indptr=[0, 6], error=lathe.SpecError)
    refused(r"qo_indptr: has elements of torch.float32", lt.attention, q, kv, kv, qo_indptr=[0, 4.7], error=lathe.SpecError)
    pages = dict(kv_indptr=[0, 1], last_page_len=[16], kv_indices=torch.tensor([2**32], device="cpu"))
    k = kv[None, :2]
    holds = (
        r"kv_indices: holds 4294967296" if DEVICE == "cpu" else "kv_indices: is on cpu; allowed: cuda"
    )  # where none is looked at
    refused(holds, lt.attention, q, k, k, qo_indptr=[0, 4], **pages, error=lathe.SpecError)


@traces
def test_numbers_past_32_bits_in_a_graph(rng):
    q, kv, far = draw(rng, 4, 4, 64), draw(rng, 6, 2, 64), torch.tensor([0, 4 + 2**32], device="cpu")

    @torch.compile(fullgraph=True, backend="eager")
    def attend(qo):
        return lt.attention(q, kv, kv, qo_indptr=qo, kv_indptr=[0, 6])

    near = torch.tensor([0, 4], device="cpu")
    assert torch.equal(attend(near), lt.attention(q, kv, kv, qo_indptr=near, kv_indptr=[0, 6]))
    refused(r"qo_indptr: holds numbers that are not of 32 bits", attend, far)


def test_arguments_of_the_wrong_kind(rng):
    q, kv, pages = draw(rng, 4, 4, 64), draw(rng, 6, 2, 64), draw(rng, 2, 16, 2, 64)
    one = dict(qo_indptr=i32(0, 4), kv_indptr=i32(0, 6))
    call, envelope = (SPEC.to_json(), q, kv, kv), lt.Envelope(SPEC, BOUNDS, DEVICE)
    owned = q.clone().requires_grad_()
    envelope.plan(**one)
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
            dict(one, kv_indices=i32(0).to(DEVICE), last_page_len=[6], order="hnd"),
        ),
    ):
        refused(match, function, *args, **given, error=lathe.SpecError)
