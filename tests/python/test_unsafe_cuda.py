"""Hooks as CUDA text: refused without both gates, and equal to the same function as an expression."""

import lathe
import lathe.expr as le
import numpy as np
import pytest
from test_hooks import DIM, HEADS, KEYS, KV_HEADS, ROWS, draw

TEXT = "return a0 <= a1 && a1 - a0 < a2;"
W = le.param("W", "i32")


def spec_of(hooks):
    return lathe.AttentionSpec(
        q_dtype="f16",
        o_dtype="f16",
        group_size=HEADS // KV_HEADS,
        head_dim_qk=DIM,
        head_dim_vo=DIM,
        layout={"kind": "ragged"},
        split_kv="off",
        hooks=hooks,
    )


def cuda_hooks():
    return le.hooks(mask=lambda q_pos, kv_pos: le.unsafe_cuda(TEXT, kv_pos, q_pos, W))


def ran(kernel, arrays):
    plan = kernel.plan(num_kv_heads=KV_HEADS, qo_indptr=[0, ROWS], kv_indptr=[0, KEYS], params={"W": 4})
    return kernel.run(*arrays, plan)


def test_equals_the_expression(rng):
    arrays = draw(rng)
    window = le.hooks(mask=lambda q_pos, kv_pos: (kv_pos <= q_pos) & (q_pos - kv_pos < W))
    kernel = lathe.Attention(spec_of(cuda_hooks()), engine=lathe.Engine(unsafe_cuda=True), unsafe_cuda=True)
    assert np.array_equal(ran(kernel, arrays), ran(lathe.Attention(spec_of(window)), arrays))


def test_forms():
    hooks = cuda_hooks()
    assert hooks.to_text() == f'param W: i32;\nmask = unsafe_cuda("{TEXT}", kv_pos, q_pos, W);\n'
    assert le.parse(hooks.to_text()) == hooks
    assert le.Hooks.from_json(hooks.to_json()) == hooks
    other = le.hooks(mask=lambda q_pos, kv_pos: le.unsafe_cuda(TEXT + " ", kv_pos, q_pos, W))
    assert other.canonical_bytes() != hooks.canonical_bytes()


def test_each_gate_is_named():
    spec = spec_of(cuda_hooks())
    opened = lathe.Engine(unsafe_cuda=True)
    for given, match in (
        ({}, "PrepareOptions::unsafe_cuda is off"),
        ({"engine": opened}, "PrepareOptions::unsafe_cuda is off"),
        ({"unsafe_cuda": True}, "EngineOptions::unsafe_cuda: is off"),
        ({"unsafe_cuda": True, "engine": lathe.Engine()}, "EngineOptions::unsafe_cuda: is off"),
    ):
        with pytest.raises(lathe.SpecError, match=match):
            lathe.Attention(spec, **given)
    before = lathe.stats()["compiles"]
    with pytest.raises(lathe.SpecError, match="unsafe_cuda"):
        lathe.Attention(lathe.AttentionSpec.from_json(spec.to_json()))
    with pytest.raises(lathe.SpecError, match="unsafe_cuda"):
        lathe.explain(spec)
    for ask in (opened._engine.build, opened._engine.source, opened._engine.key):
        with pytest.raises(lathe.SpecError, match="PrepareOptions::unsafe_cuda is off"):
            ask(spec)
    assert lathe.stats()["compiles"] == before
    report = lathe.warmup([spec], progress=False)
    assert report.compiled == 0 and "unsafe_cuda" in str(report.failed[0][1])


def test_calls_of_the_process_engine_refuse_it(rng):
    q, k, v = draw(rng)
    with pytest.raises(lathe.SpecError, match="PrepareOptions::unsafe_cuda is off"):
        lathe.attention(q, k, v, hooks=cuda_hooks())
    with pytest.raises(lathe.SpecError, match="PrepareOptions::unsafe_cuda is off"):
        lathe.attention(q, k, v, mask=lambda q_pos, kv_pos: le.unsafe_cuda("return true;", q_pos))


def test_pytorch_refuses_it(rng):
    torch = pytest.importorskip("torch")
    import lathe.torch as lt

    q, k, v = (torch.from_numpy(array) for array in draw(rng))
    for hooks in (cuda_hooks(), cuda_hooks().to_text()):
        with pytest.raises((lathe.Error, RuntimeError), match="PrepareOptions::unsafe_cuda is off"):
            lt.attention(q, k, v, qo_indptr=[0, ROWS], kv_indptr=[0, KEYS], hooks=hooks, params={"W": 4})


def test_traces_that_are_refused():
    def traced(function, match):
        with pytest.raises((lathe.TraceError, lathe.SpecError), match=match):
            le.hooks(mask=function)

    traced(lambda q_pos: le.unsafe_cuda("return true;", q_pos) & (q_pos > 3), "is a part of an expression; allowed: all of a hook")
    traced(lambda q_pos: ~le.unsafe_cuda("return true;"), "is a part of an expression")
    traced(lambda q_pos: le.unsafe_cuda("", q_pos), "the text of unsafe_cuda is empty")
    traced(lambda q_pos: le.unsafe_cuda("a\0b", q_pos), "no printable ASCII")
    traced(lambda q_pos: le.unsafe_cuda(q_pos), "allowed: a str")
    traced(lambda q_pos: le.unsafe_cuda("x", *[q_pos] * 9), "9 operands; allowed: at most 8")
