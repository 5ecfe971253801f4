"""What lathe.compat.flashinfer refuses, and whether the message says which argument, its value and what is allowed."""

import functools
import math

import pytest

torch = pytest.importorskip("torch")
import lathe.compat.flashinfer as flashinfer  # noqa: E402
from compat_cases import (  # noqa: E402
    BF,
    DIM,
    HEADS,
    KV,
    KV_HEADS,
    PAGE,
    QO,
    REFUSED,
    Pages,
    i32,
    meta,
    offsets,
    refused,
    replaced,
    workspace,
)

pytestmark = pytest.mark.usefixtures("recorded")

Decode = flashinfer.BatchDecodeWithPagedKVCacheWrapper
Paged = flashinfer.BatchPrefillWithPagedKVCacheWrapper
Ragged = flashinfer.BatchPrefillWithRaggedKVCacheWrapper


class Calls:
    """Of each function a call that it takes."""

    def __init__(self, draw):
        pages = self.pages = Pages(draw)
        self.q, self.k, self.v = draw(sum(QO), HEADS, DIM), draw(sum(KV), KV_HEADS, DIM), draw(sum(KV), KV_HEADS, DIM)
        self.lens = (offsets(QO), offsets(KV), HEADS, KV_HEADS, DIM)
        self.prefill = (offsets(QO), *pages.arrays, HEADS, KV_HEADS, DIM, PAGE)
        self.decode = self.prefill[1:]
        self.ragged_wrapper, self.paged_wrapper, self.decode_wrapper = Ragged(workspace()), Paged(workspace()), Decode(workspace())
        self.ragged_wrapper.plan(*self.lens)
        self.paged_wrapper.plan(*self.prefill)
        self.decode_wrapper.plan(*self.decode)
        self.single = functools.partial(flashinfer.single_prefill_with_kv_cache, self.q, self.k, self.v)
        self.ragged = functools.partial(self.ragged_wrapper.run, self.q, self.k, self.v)
        self.paged = functools.partial(self.paged_wrapper.run, self.q, pages.cache)
        self.step = functools.partial(self.decode_wrapper.run, self.q[:3], pages.cache)


@pytest.fixture
def calls(draw):
    return Calls(draw)


# Values of the arguments that nothing serves, as messages show them, and what is allowed.
UNSERVED = {
    "jit_args": (["x"], "['x']", "None"),
    "jit_kwargs": ({"x": 1}, "{'x': 1}", "None"),
    "window_right": (1, "1", "0"),
    "kv_cache_sf": ((1, 2), "(1, 2)", "None"),
    "skip_softmax_threshold_scale_factor": (0.5, "0.5", "None"),
    "uses_spcompress": (True, "True", "None"),
    **{name: (torch.ones(2), "a tensor [2]", "None") for name in ("v_indptr", "o_indptr")},
}


@pytest.mark.parametrize("symbol, name", sorted(REFUSED))
def test_unserved(calls, symbol, name):
    target = {
        "prefill.single_prefill_with_kv_cache": calls.single,
        "decode.BatchDecodeWithPagedKVCacheWrapper.__init__": functools.partial(Decode, workspace()),
        "decode.BatchDecodeWithPagedKVCacheWrapper._plan_impl": functools.partial(calls.decode_wrapper.plan, *calls.decode),
        "decode.BatchDecodeWithPagedKVCacheWrapper.run": calls.step,
        "prefill.BatchPrefillWithPagedKVCacheWrapper.__init__": functools.partial(Paged, workspace()),
        "prefill.BatchPrefillWithPagedKVCacheWrapper.plan": functools.partial(calls.paged_wrapper.plan, *calls.prefill),
        "prefill.BatchPrefillWithPagedKVCacheWrapper.run": calls.paged,
        "prefill.BatchPrefillWithPagedKVCacheWrapper.workspace_size": functools.partial(
            calls.paged_wrapper.workspace_size, *calls.prefill
        ),
        "prefill.BatchPrefillWithRaggedKVCacheWrapper.__init__": functools.partial(Ragged, workspace()),
        "prefill.BatchPrefillWithRaggedKVCacheWrapper.plan": functools.partial(calls.ragged_wrapper.plan, *calls.lens),
        "prefill.BatchPrefillWithRaggedKVCacheWrapper.run": calls.ragged,
    }[symbol]
    value, shown, allowed = UNSERVED[name]
    # Also a NotImplementedError, so that programs that fall back do so.
    with pytest.raises(NotImplementedError) as caught:
        target(**{name: value})
    assert isinstance(caught.value, flashinfer.Unsupported) and str(caught.value) == f"{name}: is {shown}; allowed: {allowed}"


# Arguments by keyword of a call that is right but for them.
OPTIONS = {
    "single": [
        (dict(pos_encoding_mode="ROPE"), r"pos_encoding_mode: is 'ROPE'; allowed: NONE, ROPE_LLAMA, ALIBI"),
        (dict(kv_layout="DHN"), r"kv_layout: is 'DHN'; allowed: NHD, HND"),
        (dict(backend="cudnn"), r"backend: is 'cudnn'; allowed: auto, fa2"),
        (dict(o_dtype="half16"), r"o_dtype: is 'half16'; allowed: a torch.dtype"),
        (dict(o_dtype=torch.int32), r"o_data_type: is torch.int32; allowed: torch.float16"),
        (dict(sm_scale=0.0), r"sm_scale: is 0.0; allowed: finite and > 0"),
        (dict(sm_scale="x"), r"sm_scale: is 'x'; allowed: a number"),
        (dict(k_scale=math.nan), r"k_scale: is nan; allowed: a finite number"),
        (dict(k_scale=-1.0), r"sm_scale: comes to -0.125"),
        (dict(k_scale=torch.ones(2)), r"k_scale: has 2 elements; allowed: a number"),
        (dict(v_scale=torch.ones(1, device="meta")), r"v_scale: is on meta; allowed: cpu, cuda"),
        (dict(scale_q=torch.ones(3)), r"scale_q: has 3 elements; allowed: 1, or one for each of 4 heads"),
        (dict(scale_k=torch.ones(2, device="meta")), r"scale_k: is on meta; allowed: cpu, cuda"),
        (dict(scale_v="x"), r"scale_v: is 'x'; allowed: a finite number"),
        (dict(logits_soft_cap=math.nan), r"logits_soft_cap: is nan; allowed: a finite number"),
        (dict(window_left=2.5), r"window_left: is 2.5; allowed: a whole number"),
        (dict(rope_theta=-1.0), r"rope_theta: is -1.0; allowed: finite and > 0"),
        (dict(rope_scale=0.0), r"rope_scale: is 0.0; allowed: finite and > 0"),
        (dict(custom_mask=torch.zeros(8, 35)), r"custom_mask: has elements of torch.float32; allowed: torch.bool"),
        (dict(custom_mask=torch.ones(8, 34).bool()), r"custom_mask: has 272 elements; allowed: 280"),
        (dict(custom_mask=[True]), r"custom_mask: is \[True\]; allowed: a torch.Tensor"),
        (dict(custom_mask=torch.ones(8, 35, device="meta").bool()), r"custom_mask: is on meta; allowed"),
        (
            dict(packed_custom_mask=torch.zeros(3, dtype=torch.uint8)),
            r"packed_custom_mask: is torch.uint8 \[3\]; allowed: torch.uint8 of at least 35",
        ),
    ],
    "ragged": [
        (
            dict(out=torch.zeros(1, HEADS, DIM).half()),
            r"out: is torch.float16 \[1, 4, 64\] on cpu; allowed: torch.float16 \[8, 4, 64\]",
        ),
        (dict(out=[1]), r"out: is a list; allowed: a torch.Tensor"),
        (dict(out=torch.zeros(8, HEADS, DIM, device="meta").half()), r"out: is .* on meta; allowed: .* on cpu"),
        (dict(lse=torch.zeros(8, HEADS, device="meta")), r"lse: is .* on meta; allowed: .* on cpu"),
        (dict(out=torch.zeros(8, HEADS, DIM).half().requires_grad_()), r"out: requires a gradient"),
        (dict(q_scale="x"), r"q_scale: is 'x'; allowed: a finite number"),
        (dict(q_scale=-1.0), r"sm_scale: comes to -0.125"),
        (dict(o_scale=0.0), r"o_scale: is 0.0; allowed: finite and > 0"),
    ],
    "paged": [
        (dict(lse=torch.zeros(8, HEADS).half()), r"lse: is torch.float16 \[8, 4\] on cpu; allowed: torch.float32"),
        (dict(sinks=torch.zeros(3)), r"sinks: is torch.float32 \[3\]"),
        (dict(sinks=[0.0]), r"sinks: is a list; allowed: a torch.Tensor"),
        (dict(sinks=torch.zeros(HEADS).int()), r"sinks: is torch.int32 \[4\] on cpu; allowed: torch.float32"),
        (dict(sinks=torch.zeros(HEADS, device="meta")), r"sinks: is torch.float32 \[4\] on meta; allowed: .* on cpu"),
        (dict(sinks=torch.zeros(HEADS, requires_grad=True)), r"sinks: requires a gradient"),
        (dict(window_left="x"), r"window_left: is 'x'; allowed: a whole number"),
    ],
    "step": [(dict(q_len_per_req=2), r"q_len_per_req: is 2; allowed: 1, as planned")],
}


@pytest.mark.parametrize("call, given, match", [(call, *case) for call, cases in OPTIONS.items() for case in cases])
def test_options(calls, call, given, match):
    refused(match, getattr(calls, call), **given)


TENSORS = {
    "no tensor": (lambda x: [1], r"is \[1\]; allowed: a torch.Tensor"),
    "nothing": (lambda x: None, r"is None; allowed: a torch.Tensor"),
    "device": (meta, "is on meta; allowed: cpu, cuda"),
    "gradient": (lambda x: x.clone().requires_grad_(), "requires a gradient; allowed: tensors without"),
}


@pytest.mark.parametrize("index", range(3))
@pytest.mark.parametrize("kind", TENSORS)
def test_tensors_of_a_run(calls, kind, index):
    """q, k and v of each way to run."""
    spoil, match = TENSORS[kind]
    match = rf"\b{'qkv'[index]}: {match}"
    given = replaced((calls.q, calls.k, calls.v), index, spoil((calls.q, calls.k, calls.v)[index]))
    refused(match, flashinfer.single_prefill_with_kv_cache, *given)
    refused(match, calls.ragged_wrapper.run, *given)
    row = calls.q[0] if index else spoil(calls.q[0])
    refused(match, flashinfer.single_decode_with_kv_cache, row, *given[1:])
    cache = [*calls.pages.cache.unbind(1)]
    if index:
        cache[index - 1] = spoil(cache[index - 1])
    refused(match, calls.paged_wrapper.run, given[0] if index == 0 else calls.q, tuple(cache))
    refused(match, calls.decode_wrapper.run, spoil(calls.q[:3]) if index == 0 else calls.q[:3], tuple(cache))


def test_shapes_and_types_of_a_run(calls):
    q, k, v, single = calls.q, calls.k, calls.v, flashinfer.single_prefill_with_kv_cache
    refused(r"q: has 3 heads, k has 2; allowed", single, q[:, :3], k, v)
    refused(r"shapes of q, k and v: \[4, 64\], .*; allowed: three dimensions", single, q[0], k, v)
    refused(r"kv_data_type: is torch.bfloat16, q_data_type is torch.float16; allowed", single, q, k.to(BF), v.to(BF))
    refused(r"q_data_type: is torch.float32; allowed", single, q.float(), k.float(), v.float())
    refused(r"head_dim_qk: 520 is not allowed", single, *(torch.zeros(3, n, 520).half() for n in (HEADS, KV_HEADS, KV_HEADS)))
    refused(r"q: has the shape \[8, 4, 64\]; allowed: \[heads, dim\]", flashinfer.single_decode_with_kv_cache, q, k, v)
    run = calls.ragged_wrapper.run
    refused(r"q: has the shape \[7, 4, 64\]; allowed: \[8, 4, 64\], as planned", run, q[:7], k, v)
    refused(r"q: has elements of torch.bfloat16; allowed: torch.float16", run, q.to(BF), k, v)
    refused(r"k: has 1 heads of 64; allowed: 2 of 64", run, q, k[:, :1], v)
    refused(r"k: has the shape \[2, 64\]; allowed: three dimensions", run, q, k[0], v)
    refused(r"v: has elements of torch.bfloat16; allowed: torch.float16", run, q, k, v.to(BF))
    refused(r"run: has 1 further arguments; allowed: 3 scales of heads", run, q, k, v, 1.0)
    run = calls.paged_wrapper.run
    cache = calls.pages.cache
    refused(r"paged_kv_cache: has the shape .*; allowed: \[pages, 2, ...\]", run, q, cache[:, 0])
    refused(r"paged_kv_cache: is a str; allowed: a tensor, or a tuple of two", run, q, "cache")
    refused(r"k: has pages of 2 tokens; allowed: 4", run, q, cache[:, :, :2])
    refused(r"k: has 4 heads of 64; allowed: 2 of 64", run, q, cache.transpose(2, 3))
    refused(r"k: has elements of torch.bfloat16; allowed: torch.float16", run, q, cache.to(BF))
    refused(r"q: has the shape \[8, 4, 64\]; allowed: \[3, 4, 64\], as planned", calls.decode_wrapper.run, q, cache)


def test_what_the_operator_finds(calls):
    """Elements that do not lie side by side, and rows that the plan does not have; rows of q and pages lie anywhere."""
    q, k, v, run = calls.q, calls.k, calls.v, calls.ragged_wrapper.run

    def apart(x):
        return torch.zeros(*x.shape[:-1], 2 * x.shape[-1]).to(x.dtype)[..., ::2]

    for match, given in (
        (r"q: stride 2 is 2, must be 1", (apart(q), k, v)),
        (r"k: stride 2 is 2, must be 1", (q, apart(k), v)),
        (r"v: stride 2 is 2, must be 1", (q, k, apart(v))),
        (r"v: has 5 in dimension 0, k has 35", (q, k, v[:5])),
        (r"k: has 5 rows, the plan covers up to 35", (q, k[:5], v[:5])),
    ):
        with pytest.raises(RuntimeError, match=match):
            run(*given)
    with pytest.raises(RuntimeError, match=r"o: stride 2 is 2, must be 1"):
        run(q, k, v, out=apart(q))
    with pytest.raises(RuntimeError, match=r"k: stride 3 is 2, must be 1"):
        calls.paged_wrapper.run(q, apart(calls.pages.cache))
    turned = q.transpose(0, 1).contiguous().transpose(0, 1)
    assert torch.equal(run(turned, k, v), run(q, k, v))


def test_runs_without_a_plan(calls):
    match = r"plan: is not there; allowed: plan\(\) before run\(\)"
    refused(match, Ragged(workspace()).run, calls.q, calls.k, calls.v)
    refused(match, Paged(workspace()).run, calls.q, calls.pages.cache)
    refused(match, Decode(workspace()).run, calls.q[:3], calls.pages.cache)
    refused(match, flashinfer.MultiLevelCascadeAttentionWrapper(2, workspace()).run, calls.q, calls.pages.cache)
    shared = flashinfer.BatchPrefillWithSharedPrefixPagedKVCacheWrapper(workspace())
    refused(match, shared.forward, calls.q, calls.k, calls.v, calls.pages.cache)
    fast = flashinfer.fast_decode_plan
    refused(r"plan: was not called before; allowed: one plan\(\) in full", fast, Decode(workspace()), *calls.decode)
    refused(r"self: is a BatchPrefill\w*; allowed: a BatchDecode\w*", fast, calls.paged_wrapper, *calls.decode)


def test_lengths_of_a_plan(calls):
    """Arrays of offsets, lengths and pages of each plan()."""
    plans = {
        "qo_indptr": [(calls.ragged_wrapper.plan, calls.lens, 0), (calls.paged_wrapper.plan, calls.prefill, 0)],
        "kv_indptr": [(calls.ragged_wrapper.plan, calls.lens, 1)],
        "paged_kv_indptr": [(calls.paged_wrapper.plan, calls.prefill, 1)],
        "indptr": [
            (calls.decode_wrapper.plan, calls.decode, 0),
            (functools.partial(flashinfer.fast_decode_plan, calls.decode_wrapper), calls.decode, 0),
        ],
    }
    for name, targets in plans.items():
        for plan, arguments, index in targets:
            value = arguments[index]
            for wrong, match in (
                (value.tolist(), r"is \[0, .*; allowed: a torch.Tensor"),
                (meta(value), "is on meta; allowed: cpu, cuda"),
                (value.float(), "has elements of torch.float32; allowed: whole numbers"),
                (value[None], r"has the shape \[1, 4\]; allowed: one dimension"),
                (value + 1, r"is \[1, .*\]; allowed: from 0 on, never falling"),
                (value.flip(0) - value[-1], r"allowed: from 0 on, never falling"),
                (value.long() + torch.tensor([0, 0, 0, 2**32]), r"holds 0\.\.42949\d+; allowed: numbers of 32 bits"),
            ):
                refused(f"^{name}: .*{match}", plan, *replaced(arguments, index, wrong))
    short = calls.lens[1][:2]
    refused(r"kv_indptr: has 2 entries; allowed: 4, as qo_indptr", calls.ragged_wrapper.plan, *replaced(calls.lens, 1, short))
    wrong = replaced(calls.prefill, 1, calls.prefill[1][:3])
    refused(r"have 4, 3, 3 entries; allowed: n \+ 1, n \+ 1, n", calls.paged_wrapper.plan, *wrong)
    refused(r"indptr: has 3 entries; allowed: 4", calls.decode_wrapper.plan, *replaced(calls.decode, 0, calls.decode[0][:3]))


def test_pages_of_a_plan(calls):
    fast = functools.partial(flashinfer.fast_decode_plan, calls.decode_wrapper)
    for plan, arguments, index, name in (
        (calls.paged_wrapper.plan, calls.prefill, 2, "paged_kv_indices"),
        (calls.decode_wrapper.plan, calls.decode, 1, "indices"),
        (fast, calls.decode, 1, "indices"),
    ):
        value = arguments[index]
        for wrong, match in (
            ([0], r"is \[0\]; allowed: a torch.Tensor"),
            (meta(value), "is on meta; allowed: cpu, cuda"),
            (value.float(), "has elements of torch.float32; allowed: whole numbers"),
            (value[None], r"has the shape \[1, 10\]; allowed: one dimension"),
            (value[:3], "has 3 entries; allowed: at least 10"),
            (value.long().cpu() + 2**32, r"holds \d+\.\.\d+; allowed: numbers of 32 bits"),  # on a GPU none is looked at
        ):
            refused(f"^{name}: {match}", plan, *replaced(arguments, index, wrong))
    for plan, arguments, index, name in (
        (calls.paged_wrapper.plan, calls.prefill, 3, "paged_kv_last_page_len"),
        (calls.decode_wrapper.plan, calls.decode, 2, "last_page_len"),
        (fast, calls.decode, 2, "last_page_len"),
    ):
        refused(f"^{name}: is on meta; allowed: cpu, cuda", plan, *replaced(arguments, index, meta(arguments[index])))
        refused(rf"^{name}: is \[1\]; allowed: a torch.Tensor", plan, *replaced(arguments, index, [1]))


def test_numbers_of_a_plan(calls):
    for plan, arguments in (
        (calls.ragged_wrapper.plan, calls.lens),
        (calls.paged_wrapper.plan, calls.prefill),
        (calls.decode_wrapper.plan, calls.decode),
        (functools.partial(flashinfer.fast_decode_plan, calls.decode_wrapper), calls.decode),
    ):
        sizes = len(arguments) - (3 if arguments is calls.lens else 4)
        refused(r"num_qo_heads: is 3, num_kv_heads is 2; allowed: a multiple", plan, *replaced(arguments, sizes, 3))
        refused(r"num_qo_heads: is 4.0; allowed: a whole number", plan, *replaced(arguments, sizes, 4.0))
        refused(r"num_kv_heads: is 0; allowed: 1 or more", plan, *replaced(arguments, sizes + 1, 0))
        refused(r"head_dim\w*: is '64'; allowed: a whole number", plan, *replaced(arguments, sizes + 2, "64"))
        refused(r"head_dim_qk: 65 is not allowed", plan, *replaced(arguments, sizes + 2, 65))
        if arguments is not calls.lens:
            refused(r"page_size: is -1; allowed: 1 or more", plan, *replaced(arguments, sizes + 3, -1))
        for given, match in (
            (dict(q_data_type="half16"), r"q_data_type: is 'half16'; allowed: a torch.dtype"),
            (dict(q_data_type=torch.float32), r"q_data_type: is torch.float32; allowed: torch.float16"),
            (dict(kv_data_type=3), r"kv_data_type: is 3; allowed: a torch.dtype"),
            (dict(q_data_type=BF, kv_data_type="float16"), r"kv_data_type: is torch.float16, q_data_type is torch.bfloat16"),
            (dict(sm_scale=-1.0), r"sm_scale: is -1.0; allowed: finite and > 0"),
            (dict(logits_soft_cap="c"), r"logits_soft_cap: is 'c'; allowed: a finite number"),
            (dict(window_left="x"), r"window_left: is 'x'; allowed: a whole number"),
            (dict(rope_scale=math.inf), r"rope_scale: is inf; allowed: finite and > 0"),
            (dict(pos_encoding_mode="ROPE"), r"pos_encoding_mode: is 'ROPE'; allowed: NONE"),
        ):
            refused(match, plan, *arguments, **given)


def test_more_of_a_plan(calls):
    for plan in (
        functools.partial(calls.ragged_wrapper.plan, *calls.lens),
        functools.partial(calls.paged_wrapper.plan, *calls.prefill),
    ):
        refused(r"custom_mask: has 3 elements; allowed: 118", plan, custom_mask=torch.ones(3, dtype=torch.bool))
        refused(r"custom_mask: has elements of torch.float16; allowed: torch.bool", plan, custom_mask=torch.zeros(118).half())
        refused(r"packed_custom_mask: is on meta", plan, packed_custom_mask=torch.ones(16, device="meta").byte())
        refused(r"seq_lens: is \[3, 1, 4\]; allowed: \[10, 4, 21\]", plan, seq_lens=torch.tensor(QO))
        refused(r"seq_lens_q: is \[10, 4, 21\]; allowed: \[3, 1, 4\]", plan, seq_lens_q=torch.tensor(KV))
        refused(r"seq_lens: is \[10, 4, 21\]; allowed: a torch.Tensor", plan, seq_lens=KV)
        refused(r"fixed_split_size: is 'x'; allowed: a whole number", plan, fixed_split_size="x")
    plan = functools.partial(calls.decode_wrapper.plan, *calls.decode)
    refused(r"seq_lens: is \[3, 1, 4\]; allowed: \[10, 4, 21\]", plan, seq_lens=torch.tensor(QO))
    refused(r"q_len_per_req: is 2; allowed: 1", plan, q_len_per_req=2)
    refused(r"q_len_per_req: is 'x'; allowed: a whole number", plan, q_len_per_req="x")
    refused(r"fixed_split_size: is 4; allowed: None", plan, fixed_split_size=4)
    several = Decode(workspace(), use_tensor_cores=True)
    refused(r"q_len_per_req: is 5, a request has 4 keys; allowed", several.plan, *calls.decode, q_len_per_req=5)
    with pytest.raises(TypeError, match="two values for window_left"):
        plan("NONE", 3, window_left=3)
    cascade = flashinfer.MultiLevelCascadeAttentionWrapper(2, workspace())
    refused(r"qo_indptr_arr: has 1 entries; allowed: 2", cascade.plan, [1], *[[1, 2]] * 3, HEADS, KV_HEADS, DIM, PAGE)
    refused(r"int_workspace_buffers: has 1 entries; allowed: 2", cascade.reset_workspace_buffer, workspace(), [workspace()])


def test_masks_of_graphs(calls):
    """Their buffers are as large as the largest mask."""
    arrays = [i32(*[0] * n) for n in (4, 4, 16, 3)]
    bits = dict(custom_mask=torch.ones(118, dtype=torch.bool))
    for given, match in (
        ((), r"custom_mask_buf: is a NoneType; allowed: a torch.Tensor"),
        ((torch.zeros(64), i32(0, 0, 0, 0)), r"custom_mask_buf: is torch.float32 \[64\] on cpu; allowed: torch.uint8"),
        ((torch.zeros(64).byte(), torch.zeros(4)), r"mask_indptr_buf: is torch.float32 \[4\] on cpu; allowed: torch.int32"),
        ((torch.zeros(4).byte(), i32(0, 0, 0, 0)), r"custom_mask: has 16 bytes; allowed: at most 4"),
    ):
        refused(match, Paged(workspace(), "NHD", True, *arrays, *given).plan, *calls.prefill, **bits)


def test_unknown_keywords(calls):
    """Of every call."""
    step = calls.decode
    for call in (
        *(calls.single, calls.ragged, calls.paged, calls.step),
        functools.partial(flashinfer.single_decode_with_kv_cache, calls.q[0], calls.k, calls.v),
        *(functools.partial(wrapper, workspace()) for wrapper in (Ragged, Paged, Decode)),
        functools.partial(calls.ragged_wrapper.plan, *calls.lens),
        functools.partial(calls.paged_wrapper.plan, *calls.prefill),
        functools.partial(calls.decode_wrapper.plan, *step),
        functools.partial(calls.decode_wrapper.workspace_size, *step),
        functools.partial(flashinfer.fast_decode_plan, calls.decode_wrapper, *step),
        functools.partial(flashinfer.packbits, torch.ones(3)),
        functools.partial(flashinfer.get_seq_lens, i32(0, 1), i32(1), 4),
    ):
        call()
        with pytest.raises(TypeError, match="unexpected keyword argument 'causale'"):
            call(causale=True)
