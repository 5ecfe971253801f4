"""What is refused, and whether the message says which argument, its value and what is allowed."""

import re

import lathe
import numpy as np
import pytest

Q = np.zeros((4, 4, 64), np.float16)
KV = np.zeros((6, 2, 64), np.float16)
PAGES = np.zeros((5, 16, 2, 64), np.float16)


def refused(match, call, *args, **kwargs):
    with pytest.raises(lathe.SpecError) as caught:
        call(*args, **kwargs)
    text = str(caught.value)
    assert re.search(match, text), text
    return caught.value


@pytest.mark.parametrize(
    "fields, match",
    [
        ({"head_dim": 64}, r"head_dim: unknown field.*allowed: .*head_dim_qk.*did you mean head_dim_\w\w"),
        ({"grup_size": 4}, r"grup_size: unknown field.*did you mean group_size"),
        ({"group_size": 129}, r"group_size.*129.*1\.\.128"),
        ({"group_size": "4"}, r"group_size.*4.*1\.\.128"),
        ({"head_dim_qk": 20}, r"head_dim_qk.*20"),
        ({"q_dtype": "fp16"}, r"q_dtype.*fp16.*f16, bf16"),
        ({"mask": "casual"}, r"mask.*casual.*causal"),
        ({"layout": {"kind": "paged", "page": 16}}, r"layout\.page: unknown field; allowed: .*page_size"),
        ({"label": object()}, r"label: is <object.*allowed"),
        ({"group_size": float("nan")}, r"group_size: is nan"),
        ({"arch": "sm_70"}, r"arch.*sm_70"),
    ],
)
def test_specs(fields, match):
    refused(match, lathe.AttentionSpec, **fields)


def test_all_problems_at_once():
    error = refused("group_size", lathe.AttentionSpec, group_size=0, head_dim_vo=7)
    assert "head_dim_vo" in str(error) and error.code == "invalid_argument" and isinstance(error, ValueError)


@pytest.mark.parametrize(
    "args, kwargs, match",
    [
        (([1, 2], KV, KV), {}, r"q: is a list; allowed: a numpy array"),
        ((None, KV, KV), {}, r"q: is None; allowed"),
        ((Q.astype(">f2"), KV, KV), {}, r"q: has elements of >f2; allowed: f16"),
        ((Q, KV, KV.astype(">f2")), {}, r"v: has elements of >f2; allowed: f16"),
        ((Q, KV, KV), {"params": 3}, r"params: is 3; allowed: a mapping of names"),
        ((Q, KV, KV), {"tensors": [Q]}, r"tensors: is \[.*; allowed: a mapping of names"),
        ((Q, KV, KV), {"k_scales": 3}, r"k_scales: is 3; allowed: a mapping"),
        ((Q.astype(np.float32), KV, KV), {}, r"q: has elements of f32; allowed: f16, bf16"),
        ((Q, KV.astype(np.float64), KV), {}, r"k: has elements of float64; allowed: f16"),
        ((Q[0], KV, KV), {}, r"q: has 2 dimensions, \[4, 64\]; allowed: 3"),
        ((Q[:, :3], KV, KV), {}, r"q: has 3 heads, k has 2; allowed: a multiple"),
        ((Q, KV, KV[:, :, :32]), {"head_dim_vo": 64}, r"v.*32"),
        ((Q, KV, None), {}, r"v: is None; allowed"),
        ((Q, KV, KV[:5]), {}, r"v.*has 5.*k has 6"),
        ((Q, KV, KV), {"qo_indptr": [0, 3.5]}, r"qo_indptr: has elements of float64; allowed: whole numbers"),
        ((Q, KV, KV), {"qo_indptr": [0, 2**40]}, r"qo_indptr: holds 0\.\.1099511627776; allowed: numbers of 32 bits"),
        ((Q, KV, KV), {"qo_indptr": [[0, 4]]}, r"qo_indptr: has 2 dimensions; allowed: 1"),
        ((Q, KV, KV), {"qo_indptr": [0, 9]}, r"q: has 4 rows, the plan covers up to 9"),
        ((Q, KV, KV), {"qo_indptr": [0, 3, 2]}, r"qo_indptr\[2\]: is 2, less than"),
        ((Q, KV, KV), {"mask": "causal", "window": 3}, r"window: is 3, but the spec's mask"),
        ((Q, KV, KV), {"mask": "window"}, r"window: is 0, must be >= 1"),
        ((Q, KV, KV), {"window": 2.5}, r"window: is 2\.5; allowed: a whole number"),
        ((Q, KV, KV), {"sm_scale": -1}, r"sm_scale: is -1; allowed: finite and > 0"),
        ((Q, KV, KV), {"sm_scale": "x"}, r"sm_scale: is 'x'; allowed: a number"),
        ((Q, KV, KV), {"soft_cap": float("inf")}, r"soft_cap: is inf; allowed: finite and > 0"),
        ((Q, KV, KV), {"lse": "log10"}, r"lse.*log10"),
        ((Q, KV, KV), {"splits": 3}, r"splits: unknown field.*did you mean split_kv"),
        ((Q, KV, KV), {"out": np.zeros((4, 4, 64), np.float32)}, r"o: has elements of f32; allowed: f16"),
        ((Q, KV, KV), {"out": np.zeros((4, 4, 32), np.float16)}, r"o.*32"),
        (
            (Q, PAGES, PAGES),
            {"kv_indices": [0], "kv_indptr": [0, 1], "last_page_len": [17]},
            r"last_page_len\[0\]: is 17, must be in 1\.\.16",
        ),
        (
            (Q, PAGES, PAGES),
            {"kv_indices": [5], "kv_indptr": [0, 1], "last_page_len": [16]},
            r"kv_indices\[0\]: is page 5 .*0\.\.4",
        ),
        ((Q, PAGES, PAGES), {"block_table": [[0]], "seq_lens": [17]}, r"seq_lens\[0\]: is 17, must be in 0\.\.16"),
        ((Q, PAGES, PAGES), {"kv_indices": [0], "order": "hnd"}, r"order: is 'hnd'; allowed: 'NHD', 'HND'"),
        ((Q, KV, KV), {"seq_lens": [3]}, r"seq_lens: is given, but the layout is ragged; allowed: None"),
        ((Q, KV, KV), {"last_page_len": [3]}, r"last_page_len: is given, but the layout is ragged; allowed: None"),
        (
            (Q, PAGES, PAGES),
            {"kv_indices": [0], "kv_indptr": [0, 1], "last_page_len": [16], "seq_lens": [3]},
            r"seq_lens: is given, but the layout's index is csr; allowed: None",
        ),
        (
            (Q, PAGES, PAGES),
            {"block_table": [[0]], "seq_lens": [16], "last_page_len": [3]},
            r"last_page_len: is given, but the layout's index is table; allowed: None",
        ),
        ((Q, KV, KV), {"kv_indices": [0]}, r"k: has 3 dimensions.*allowed: 4"),
    ],
)
def test_attention(args, kwargs, match):
    refused(match, lathe.attention, *args, **kwargs)


def test_read_only_result():
    out = np.zeros((4, 4, 64), np.float16)
    out.flags.writeable = False
    refused("o: is read-only", lathe.attention, Q, KV, KV, out=out)


def test_reversed_and_broadcast_arrays():
    refused(r"q", lathe.attention, Q[::-1], KV, KV)
    refused(r"k", lathe.attention, Q, np.asfortranarray(KV), KV)


def test_plan_and_kernel_disagree():
    one = lathe.Attention(
        lathe.AttentionSpec(q_dtype="f16", o_dtype="f16", group_size=2, head_dim_qk=64, head_dim_vo=64, layout="ragged")
    )
    two = lathe.Attention(one.spec.replace(mask="causal"))
    plan = one.plan(num_kv_heads=2, qo_indptr=[0, 4], kv_indptr=[0, 6])
    refused(r"plan: was made for another kernel", two.run, Q, KV, KV, plan)
    refused(r"plan: is a str; allowed: a lathe.Plan", one.run, Q, KV, KV, "plan")
    refused(r"kv_indices: is given, but the layout is ragged", one.plan, num_kv_heads=2, qo_indptr=[0, 1], kv_indices=[0])
    refused(r"num_kv_heads: is 0", one.plan, num_kv_heads=0, qo_indptr=[0, 4], kv_indptr=[0, 6])
    refused(r"num_kv_heads: is True; allowed: a whole number", one.plan, num_kv_heads=True, qo_indptr=[0, 4])
    refused(r"k.*3", one.run, Q, np.zeros((6, 3, 64), np.float16), KV, plan)
    refused(r"stream: is -1; allowed", one.run, Q, KV, KV, plan, stream=-1)
    refused(r"soft_cap: is .*but the spec has no soft_cap", one.run, Q, KV, KV, plan, soft_cap=2)


def test_a_gpu_that_is_not_there():
    try:
        device = lathe.cuda_device(0)
    except lathe.UnavailableError as error:
        assert error.code == "unavailable" and str(error)
    else:
        assert device.arch.startswith("sm_")


def test_dlpack_that_fails():
    class Broken:
        def __dlpack__(self):
            raise BufferError("requires grad")

    class Lying:
        def __dlpack__(self):
            return 3

    refused(r"q: is a Broken that cannot be exported: requires grad", lathe.attention, Broken(), KV, KV)
    refused(r"q: is an object whose __dlpack__\(\) gives no DLPack tensor", lathe.attention, Lying(), KV, KV)
