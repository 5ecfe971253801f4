"""What lathe.torch refuses, and whether the message says which argument, its value and what is allowed."""

import math

import lathe
import pytest

torch = pytest.importorskip("torch")
import lathe.torch as lt  # noqa: E402
from devices import DEVICE, SHOWN  # noqa: E402
from torch_batches import i32  # noqa: E402

SPEC = lathe.AttentionSpec(
    q_dtype="f16", o_dtype="f16", group_size=2, head_dim_qk=64, head_dim_vo=64, layout="ragged", mask="causal", lse="ln"
)
BOUNDS = dict(num_kv_heads=2, max_batch=2, max_qo_tokens=4, max_kv_entries=6)
LENS = dict(qo_indptr=i32(0, 4), kv_indptr=i32(0, 6))
Q, K, V = torch.zeros(4, 4, 64).half(), torch.zeros(6, 2, 64).half(), torch.zeros(6, 2, 64).half()
PAGES = torch.zeros(3, 16, 2, 64).half()
CSR = dict(qo_indptr=[0, 4], kv_indptr=[0, 1], kv_indices=torch.tensor([0]), last_page_len=[6])
TABLE = dict(qo_indptr=[0, 4], block_table=torch.tensor([[0]]), seq_lens=[6])


def meta(x):
    return x.to("meta")


def apart(x):
    """The same shape, with elements that do not lie side by side."""
    return torch.zeros(*x.shape[:-1], 2 * x.shape[-1], dtype=x.dtype)[..., ::2]


def attention(q=Q, k=K, v=V, **given):
    return lt.attention(q, k, v, **{**LENS, **given})


def paged(q=Q, k=PAGES, v=PAGES, **given):
    return lt.attention(q, k, v, **(given if "qo_indptr" in given else {**CSR, **given}))


def into(spec=SPEC, q=Q, k=K, v=V, out=None, lse=None, **given):
    out, lse = torch.empty_like(Q) if out is None else out, torch.empty(4, 4) if lse is None else lse
    return lt.attention_into(spec.to_json(), q, k, v, out, lse, **{**LENS, **given})


def envelope(**given):
    return lt.Envelope(SPEC, lt.Bounds(**{**BOUNDS, **given}), DEVICE)


def plan(**given):
    return envelope().plan(**{**LENS, **given})


def plan_on_device(**given):
    return envelope().plan_on_device(**{name: x.to(DEVICE) for name, x in LENS.items()} | given)


def run(q=Q, k=K, v=V, out=None, lse=None, **given):
    planned = envelope()
    planned.plan(**LENS)
    out, lse = torch.empty_like(Q) if out is None else out, torch.empty(4, 4) if lse is None else lse
    return planned.run(q, k, v, out, lse=lse, **given)


def append(k=K[:2], v=V[:2], k_cache=None, **given):
    cache = torch.zeros(3, 2, 8, 2, 64).half() if k_cache is None else k_cache
    lt.append(k, v, cache, **{"slot_mapping": torch.tensor([0, 1]), **given})


CALLS = (attention, paged, into, plan, plan_on_device, run, append)


@pytest.mark.parametrize("call", CALLS)
def test_the_calls_are_right(call):
    call()


DEVICES = r"is on meta; allowed: dense tensors on cpu or cuda"
MISPLACED = {
    (attention, "q"): rf"k: is on {SHOWN}; allowed: meta, as q",
    **{(attention, name): rf"is on meta; allowed: {SHOWN}, as q" for name in "kv"},
    **{(attention, name): r"is on meta; allowed: cpu, as lengths are read there" for name in ("qo_indptr", "kv_indptr")},
    (paged, "kv_indices"): rf"is on meta; allowed: {SHOWN}, as q",
    **{(into, name): DEVICES for name in ("q", "k", "v", "out", "lse", "qo_indptr", "kv_indptr")},
    **{(run, name): DEVICES for name in ("q", "k", "v", "out", "lse")},
    **{(call, "qo_indptr"): DEVICES for call in (plan, plan_on_device)},
    (plan, "kv_indptr"): r"is on meta; allowed: cpu, as qo_indptr",
    (plan_on_device, "kv_indptr"): rf"is on meta; allowed: {SHOWN}, as qo_indptr",
    **{(append, name): DEVICES for name in ("k", "v", "k_cache", "slot_mapping")},
}
VALUES = {
    **{"q": Q, "k": K, "v": V, "out": Q, "lse": torch.empty(4, 4), **LENS, "kv_indices": torch.tensor([0])},
    **{"k_cache": torch.zeros(3, 2, 8, 2, 64).half(), "slot_mapping": torch.tensor([0, 1])},
}


@pytest.mark.parametrize("call, name", MISPLACED)
def test_devices(call, name):
    value = VALUES[name][:2] if call is append and name in "kv" else VALUES[name]
    match = MISPLACED[call, name]
    with pytest.raises(lathe.SpecError, match=match if ":" in match.split(";")[0] else f"^{name}: {match}"):
        call(**{name: meta(value)})


def test_tensors_on_meta_alone_give_shapes():
    o = attention(meta(Q), meta(K), meta(V))
    assert o.device.type == "meta" and o.shape == Q.shape


GRADIENTS = [
    *((attention, name) for name in "qkv"),
    *((call, name) for call in (into, run) for name in ("q", "k", "v", "out", "lse")),
    *((append, name) for name in ("k", "v", "k_cache")),
]


@pytest.mark.parametrize("call, name", GRADIENTS)
def test_gradients(call, name):
    value = VALUES[name][:2] if call is append and name in "kv" else VALUES[name]
    with pytest.raises(lathe.SpecError, match=f"^{name}: requires a gradient; allowed: tensors without"):
        call(**{name: value.clone().requires_grad_()})
    with torch.no_grad():
        call(**{name: value.clone().requires_grad_()})


BAD = [
    (attention, dict(k=apart(K)), r"k: stride 2 is 2, must be 1"),
    (attention, dict(k=K[..., :32]), r"k: dimension 2 is 32, must be 64"),
    (attention, dict(k=K.float()), r"k: has elements of Float; allowed: Half"),
    (attention, dict(v=V[0]), r"v: has rank 2, must have rank 3"),
    (attention, dict(q=Q.to_sparse()), r"q: is torch.sparse_coo on [\w:]+; allowed: dense tensors"),
    (attention, dict(window="x"), r"window: is 'x'; allowed: a whole number"),
    (attention, dict(window=2.5), r"window: is 2.5; allowed: a whole number"),
    (attention, dict(window=-1), r"window: is -1; allowed: 0\.\."),
    (attention, dict(mask="causal", window=3), r"window: is 3, but the spec's mask \(causal\) has no window"),
    (attention, dict(mask="x"), r'mask: "x" is not allowed; allowed: none, causal'),
    (attention, dict(lse="x"), r'lse: "x" is not allowed; allowed: none, ln, log2'),
    (attention, dict(sm_scale=math.nan), r"sm_scale: is nan; allowed: finite and > 0"),
    (attention, dict(k_scales=[1]), r"k_scales: is \[1\]; allowed: a mapping with scale"),
    (attention, dict(k_scales={"x": 1}), r"k_scales: has x; allowed: scale"),
    (attention, dict(v_scales={"scale": "x"}), r"v_scales.scale: is 'x'; allowed: a number"),
    (attention, dict(v_scales={"zero": [1]}), r"v_scales.zero: is \[1\]; allowed: a torch.Tensor"),
    (attention, dict(kv_indptr=None), r"kv_indptr: has 0 entries, must have batch \+ 1 = 2"),
    (paged, dict(kv_indices=torch.zeros(1)), r"kv_indices: has elements of torch.float32; allowed: whole numbers"),
    (paged, dict(kv_indices=torch.tensor([[0]])), r"kv_indices: has the shape \[1, 1\]; allowed: one dimension"),
    (paged, {**TABLE, "block_table": torch.tensor([0])}, r"block_table: has the shape \[1\]; allowed: \[batch, pages\]"),
    (paged, {**TABLE, "block_table": torch.tensor([[0]], device="meta")}, rf"block_table: is on meta; allowed: {SHOWN}"),
    (paged, {**TABLE, "seq_lens": torch.tensor([6], device="meta")}, r"seq_lens: is on meta; allowed: cpu"),
    (paged, {**CSR, "last_page_len": [17]}, r"last_page_len\[0\]: is 17, must be in 1\.\.16"),
    (into, dict(out=Q[:2]), r"o: has 2 rows, the plan covers up to 4"),
    (into, dict(out=Q.float()), r"out: has elements of Float; allowed: Half"),
    (into, dict(out=apart(Q)), r"o: stride 2 is 2, must be 1"),
    (into, dict(lse=torch.zeros(4, 4).half()), r"lse: has elements of Half; allowed: Float"),
    (into, dict(lse=apart(torch.zeros(4, 4))), r"lse: stride 1 is 2, must be 1"),
    (into, dict(window="x"), r"argument 'window'.*found type 'str'"),
    (into, dict(window=3), r"window: is 3, but the spec's mask"),
    (into, dict(sm_scale=-1.0), r"sm_scale: is -1.0*, must be finite and > 0"),
    (into, dict(soft_cap=2.0), r"soft_cap: is 2.0*, but the spec has no soft_cap"),
    (into, dict(tensors=[1]), r"tensors: is \[1\]; allowed: a mapping of names"),
    (into, dict(qo_indptr=LENS["qo_indptr"].long()), r"qo_indptr: has elements of Long; allowed: Int"),
    (envelope, dict(num_kv_heads="x"), r"num_kv_heads: is 'x'; allowed: a whole number"),
    (envelope, dict(num_kv_heads=0), r"num_kv_heads: is 0, must be >= 1"),
    (envelope, dict(max_batch=2.5), r"max_batch: is 2.5; allowed: a whole number"),
    (envelope, dict(max_batch=-2), r"is -2, must be in 0\.\."),
    (plan, dict(qo_indptr=LENS["qo_indptr"].float()), r"qo_indptr: has elements of Float; allowed: Int"),
    (plan, dict(qo_indptr=i32(0, 1, 4, 5)[::2]), r"qo_indptr: is not contiguous; allowed: a contiguous"),
    (plan, dict(qo_indptr=i32(0, 9)), r"max_qo_tokens: the batch has 9 .*; the envelope allows 4"),
    (plan, dict(kv_indptr=i32(0, 60)), r"max_kv_entries: the batch has 60 .*; the envelope allows 6"),
    (plan, dict(kv_indptr=i32(0, 3, 6)), r"kv_indptr: has 3 entries, must have batch \+ 1 = 2"),
    (run, dict(q=Q[:, :2]), r"q: dimension 1 is 2, must be 4"),
    (run, dict(q=[1]), r"q: is \[1\]; allowed: a torch.Tensor"),
    (run, dict(v=3), r"v: is 3; allowed: a torch.Tensor"),
    (run, dict(lse=[1]), r"lse: is \[1\]; allowed: a torch.Tensor"),
    (run, dict(k=K[:3], v=V[:3]), r"k: has 3 rows, the plan covers up to 6"),
    (run, dict(k=K.bfloat16()), r"k: has elements of BFloat16; allowed: Half"),
    (run, dict(kv_indices=torch.tensor([0]).int()), r"kv_indices: is given, but the layout is ragged"),
    (run, dict(sm_scale=math.nan), r"sm_scale: is nan, must be finite and > 0"),
    (append, dict(v=V[:2, :1]), r"v: dimension 1 is 1, must be 2"),
    (append, dict(k=apart(K[:2])), r"k: stride 2 is 2, must be 1"),
    (append, dict(k_cache=apart(torch.zeros(3, 2, 8, 2, 64).half())), r"k_cache: stride 4 is 2, must be 1"),
    (append, dict(slot_mapping=[0, 1]), r"slot_mapping: is \[0, 1\]; allowed: a torch.Tensor"),
    (append, dict(slot_mapping=torch.tensor([0, 1]).int()), r"slot_mapping: has elements of Int; allowed: Long"),
    (append, dict(cos_sin=[1]), r"cos_sin: is \[1\]; allowed: a torch.Tensor"),
    (append, dict(k_scales="x"), r"k_scales: is 'x'; allowed: a mapping"),
    (append, dict(batch_indices=torch.zeros(2).int()), r"batch_indices: is given, but the spec's place is slots"),
]


@pytest.mark.parametrize("call, given, match", BAD)
def test_arguments(call, given, match):
    for has_gradients in (True, False):
        with torch.set_grad_enabled(has_gradients), pytest.raises((lathe.SpecError, RuntimeError), match=match):
            call(**given)


def test_rows_may_lie_anywhere():
    q = torch.randn(4, 4, 64, generator=torch.Generator("cpu").manual_seed(20261122), device="cpu").to(DEVICE).half()
    turned = q.transpose(0, 1).contiguous().transpose(0, 1)
    k, v = q[:, :2].repeat(2, 1, 1)[:6], q[:, 2:].repeat(2, 1, 1)[:6]
    assert not turned.is_contiguous() and torch.equal(attention(turned, k, v), attention(q, k, v))


def test_unknown_keywords():
    for call in (into, plan, plan_on_device, run, append):
        with pytest.raises(TypeError, match="unexpected keyword argument 'windw'"):
            call(windw=3)
    with pytest.raises(TypeError, match="unexpected keyword argument 'windw'"):
        lt.Bounds(**BOUNDS, windw=3)
    with pytest.raises(lathe.SpecError, match=r"windw: unknown field; allowed: .*"):
        attention(windw=3)


def test_envelopes():
    for device in ("meta", "gpu"):
        with pytest.raises(lathe.SpecError, match=f"device: is '{device}'; allowed: cpu or cuda"):
            lt.Envelope(SPEC, lt.Bounds(**BOUNDS), device)
    with pytest.raises(lathe.SpecError, match=r"plan: is not there; allowed: plan\(\) before run\(\)"):
        envelope().run(Q, K, V, torch.empty_like(Q), lse=torch.empty(4, 4))
