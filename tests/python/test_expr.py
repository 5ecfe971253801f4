"""Python functions traced into hooks: the same keys as their text form, and errors that say what to write instead."""

import math
import pathlib
import re

import lathe
import lathe.expr as le
import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


def texts():
    """The variants of the C++ tests, by name."""
    source = (ROOT / "tests/spec/expr/examples.h").read_text()
    found = {}
    for name, body in re.findall(r'Example\{"([^"]+)",\s*((?:"(?:[^"\\]|\\.)*"\s*)+)\}', source):
        found[name] = "".join(re.findall(r'"((?:[^"\\]|\\.)*)"', body)).replace("\\n", "\n")
    return found


W = le.param("W", "i32")
S = le.param("S", "i32")
CAP = le.param("cap", "f32")


def causal(q_pos, kv_pos):
    return kv_pos <= q_pos


def window(q_pos, kv_pos):
    return (kv_pos <= q_pos) & (q_pos - kv_pos < W)


def magic_pig(score, dot, slot, hk, tok, h):
    kn, qn = le.tensor("kn", "f32", ["SLOT", "HKV"]), le.tensor("qn", "f32", ["TOK", "HQ"])
    K, L = 10, 150
    p = 1 - le.acos(le.clamp(dot / (kn[slot, hk] * qn[tok, h]), -1, 1)) * 0.31831
    a = le.powi(p, K)
    w = 1 - le.powi(1 - a, L) - le.f32(L) * a * (1 - a) ** (L - 1)
    return score - le.log(le.max(w, 0) + 1e-4)


def t5(score, h, q_pos, kv_pos):
    rb = le.tensor("rb", "f32", ["HQ", 32])
    n = q_pos - kv_pos
    g = 16 + le.i32(le.log(le.f32(le.max(n, 1)) / 16) / le.log(8) * 16)
    return score + rb[h, le.clamp(le.where(n < 16, n, g), 0, 31)]


def image_spans(q_pos, kv_pos, tok):
    lo, hi = (le.tensor(name, "i32", ["TOK"], summary=True) for name in ("lo", "hi"))
    return (kv_pos <= q_pos) | ((lo[tok] <= kv_pos) & (kv_pos < hi[tok]))


def multi_item(q_pos, kv_pos, tok, b):
    it, pf = le.tensor("it", "i32", ["TOK"], sorted=True), le.tensor("pf", "i32", ["B"])
    return (kv_pos <= q_pos) & ((kv_pos < pf[b]) | (it[tok] <= kv_pos))


def tree(kv, tok, b):
    tr, cx = le.tensor("tr", "u32", ["TOK", 2]), le.tensor("cx", "i32", ["B"])
    at = le.clamp(kv - cx[b], 0, 63)
    return (kv < cx[b]) | le.bit(tr[tok, at >> 5], at & 31)


def custom_mask(tok, kv):
    mb = le.tensor("mb", "u32", ["TOK", le.param("KW", "i32")], summary=True)
    return le.bit(mb[tok, kv >> 5], kv & 31)


def duo(q_pos, kv_pos, h):
    st = le.tensor("st", "u8", ["HQ"])
    return (kv_pos <= q_pos) & ((st[h] == 0) | (kv_pos < S) | (q_pos - kv_pos < W))


def natten(q, kv):
    w, a, c, e, f, kx, ky = (le.param(name, "i32") for name in ("W", "a", "c", "e", "f", "kx", "ky"))
    return (abs(le.clamp(q // w, a, c) - kv // w) <= kx) & (abs(le.clamp(q % w, e, f) - kv % w) <= ky)


def dilated(q_pos, kv_pos):
    n = abs(q_pos - kv_pos)
    return (n <= W) & (n % le.param("DIL", "i32") == 0)


def by_head(name, elem="f32", axes=("HQ",)):
    return le.tensor(name, elem, axes)


def rope(at):
    f = le.tensor("f", "f32", ["N"])

    def turned(x, pos, d):
        angle = at(f, pos, d)
        return x * le.cos(angle) + le.rot(x) * le.sin(angle)

    return turned


def half(f, pos, d):
    return le.where(d < 32, le.f32(pos) * f[d // 2], 0)


VARIANTS = {
    "RoPE": lambda: le.hooks(**dict.fromkeys(("query", "key"), rope(lambda f, pos, d: le.f32(pos) * f[d % 32]))),
    "RoPE, interleaved half": lambda: le.hooks(query=rope(half), key=rope(half), mask=causal, rotary="interleaved", rotary_dims=32),
    "scaled values": lambda: le.hooks(value=lambda x, hk, d: x * le.tensor("vs", "bf16", ["HKV", "D"])[hk, d], mask=causal),
    "causal": lambda: le.hooks(mask=causal),
    "sliding window": lambda: le.hooks(mask=window),
    "bidirectional window": lambda: le.hooks(mask=lambda q_pos, kv_pos: abs(q_pos - kv_pos) <= W),
    "StreamingLLM": lambda: le.hooks(mask=lambda q_pos, kv_pos: (kv_pos <= q_pos) & ((kv_pos < S) | (q_pos - kv_pos < W))),
    "soft-cap": lambda: le.hooks(logits=lambda score: CAP * le.tanh(score / CAP)),
    "ALiBi": lambda: le.hooks(logits=lambda score, h, q_pos, kv_pos: score + by_head("a")[h] * le.f32(kv_pos - q_pos)),
    "gpt-oss": lambda: le.hooks(sink=lambda h: by_head("s")[h], mask=window),
    "sigmoid attention": lambda: le.hooks(normalizer="none", logits=lambda score: le.sigmoid(score + le.param("bias", "f32"))),
    "Llama-4 local": lambda: le.hooks(mask=lambda q_pos, kv_pos: (kv_pos <= q_pos) & (kv_pos // 8192 == q_pos // 8192)),
    "Llama-4 temperature": lambda: le.hooks(
        query=lambda x, pos: x * (1 + le.param("a", "f32") * le.log(le.floor(le.f32(pos + 1) / le.param("F", "f32", (1, 1e6))) + 1))
    ),
    "image spans": lambda: le.hooks(mask=image_spans),
    "packed documents": lambda: le.hooks(
        mask=lambda q_pos, kv_pos, tok: (le.tensor("st", "i32", ["TOK"], sorted=True)[tok] <= kv_pos) & (kv_pos <= q_pos)
    ),
    "multi-item scoring": lambda: le.hooks(mask=multi_item),
    "tree speculation": lambda: le.hooks(mask=tree),
    "packed custom mask": lambda: le.hooks(mask=custom_mask),
    "context parallel": lambda: le.hooks(kv_pos=lambda kv: kv * W + le.param("R", "i32"), mask=causal),
    "duo-attention": lambda: le.hooks(mask=duo),
    "T5 bias": lambda: le.hooks(logits=t5),
    "forgetting attention": lambda: le.hooks(
        logits=lambda score, tok, slot, h: (
            score + by_head("Fq", axes=["TOK", "HQ"])[tok, h] - by_head("F", axes=["SLOT", "HQ"])[slot, h]
        )
    ),
    "MagicPIG": lambda: le.hooks(logits=magic_pig),
    "TPA": lambda: le.hooks(
        logits=lambda score, slot, h: score * by_head("ak", "f16", ["SLOT", "HQ"])[slot, h],
        weight=lambda w, slot, h: w * by_head("av", "f16", ["SLOT", "HQ"])[slot, h],
    ),
    "int8 KV": lambda: le.hooks(
        logits=lambda score, slot, hk: score * by_head("ks", axes=["SLOT", "HKV"])[slot, hk],
        weight=lambda w, slot, hk: w * by_head("vs", axes=["SLOT", "HKV"])[slot, hk],
    ),
    "APE": lambda: le.hooks(lse_transform=lambda lse: lse * (le.param("S", "f32") * le.param("T", "f32"))),
    "gated attention": lambda: le.hooks(
        output=lambda o, tok, h, d: o * le.sigmoid(by_head("g", "bf16", ["TOK", "HQ", "D"])[tok, h, d])
    ),
    "learned 2-D bias": lambda: le.hooks(
        logits=lambda score, h, q, kv: score + by_head("bs", axes=["HQ", "N"])[h, by_head("rel", "i32", ["QLEN", "KVPOS"])[q, kv]]
    ),
    "dilated window": lambda: le.hooks(mask=dilated),
    "NATTEN 2-D": lambda: le.hooks(mask=natten),
    "cosine attention": lambda: le.hooks(
        logits=lambda dot, slot, hk, qnorm: (
            le.param("tau", "f32", (1, 100)) * dot * by_head("rk", axes=["SLOT", "HKV"])[slot, hk] / le.max(qnorm, 1e-6)
        )
    ),
    "SSMax": lambda: le.hooks(logits=lambda score, h, kv_len: score * by_head("s")[h] * le.log(le.f32(kv_len))),
}


def test_the_variants_are_those_of_the_text_tests():
    assert set(VARIANTS) == set(texts()) and len(VARIANTS) >= 28


@pytest.mark.parametrize("name", VARIANTS)
def test_same_key_as_text(name):
    traced = VARIANTS[name]()
    assert traced.canonical_bytes() == le.parse(texts()[name]).canonical_bytes()
    # And both written forms come back.
    assert le.parse(traced.to_text()).canonical_bytes() == traced.canonical_bytes()
    assert le.Hooks.from_json(traced.to_json()).canonical_bytes() == traced.canonical_bytes()


def test_other_meanings_have_other_keys():
    keys = {le.hooks(mask=f).canonical_bytes() for f in (causal, window, duo, natten, lambda q_pos, kv_pos: kv_pos < q_pos)}
    assert len(keys) == 5


def test_operators():
    def both(text, function, **hooks):
        assert le.hooks(mask=function).canonical_bytes() == le.parse(f"param W: i32; mask = {text}").canonical_bytes(), text

    both("!(kv < q)", lambda kv, q: ~(kv < q))
    both("(kv < q) != (kv < 3)", lambda kv, q: (kv < q) ^ (kv < 3))
    both("((kv & 6) | 1) ^ q == 2", lambda kv, q: (((kv & 6) | 1) ^ q) == 2)
    both("-kv % 7 << 1 > q", lambda kv, q: ((-kv % 7) << 1) > q)
    both("5 - kv >= 64 >> (q & 3)", lambda kv, q: 5 - kv >= 64 >> (q & 3))
    both("f32(kv) / 3 + 0.5 < floor(f32(q) * 2)", lambda kv, q: le.f32(kv) / 3 + 0.5 < le.floor(le.f32(q) * 2))
    both("kv == 7 && true", lambda kv: (7 == kv) & True)
    both("kv != 3", lambda kv: kv != 3)
    both("min(kv, W) > max(q, 2)", lambda kv, q: le.min(kv, W) > le.max(q, 2))
    both("kv < 4", lambda kv: kv < np.int64(4))
    both("isinf(f32(kv) * 1.5)", lambda kv: le.isinf(le.f32(kv) * 1.5))


def test_rotary_partner():
    hooks = le.hooks(query=lambda x, pos: x * le.cos(le.f32(pos)) + le.rot(x) * le.sin(le.f32(pos)))
    assert hooks.canonical_bytes() == le.parse("query = x * cos(f32(pos)) + rot(x) * sin(f32(pos))").canonical_bytes()


def test_a_long_shared_expression_stays_small():
    def shared(score):
        for _ in range(40):
            score = score * score * 0.5  # 2**40 terms when written out
        return score

    assert len(le.hooks(logits=shared).canonical_bytes()) < 10_000


def traced(match, **hooks):
    with pytest.raises(lathe.SpecError) as caught:
        le.hooks(**hooks)
    assert re.search(match, str(caught.value), re.S), str(caught.value)
    return caught.value


def test_python_that_decides():
    def branch(q_pos, kv_pos):
        if kv_pos <= q_pos:
            return True
        return False

    error = traced(r"test_expr\.py:\d+.*'<='.*truth of a traced value.*where\(c, a, b\)", mask=branch)
    assert isinstance(error, lathe.TraceError) and isinstance(error, TypeError)
    traced("truth of a traced value", mask=lambda q_pos, kv_pos: kv_pos <= q_pos and kv_pos > 3)
    traced("truth of a traced value", mask=lambda q_pos, kv_pos: not kv_pos <= q_pos)
    traced(r"truth of a traced value.*\(a < b\) & \(b < c\)", mask=lambda q_pos, kv_pos: 3 < kv_pos <= q_pos)
    traced("truth of a traced value.*lathe.expr.min", logits=lambda score: min(score, 3.0))
    traced("number is made of a traced value", logits=lambda score: math.exp(score))
    traced("traced value is an index", mask=lambda kv: [True, False][kv])
    traced("traced value is gone through", logits=lambda score: sum(score))
    traced("has no elements", logits=lambda score: score[0])
    traced("round", logits=lambda score: round(score))
    for function in (np.exp, np.sqrt):
        traced(
            r"logits, test_expr\.py:\d+: .*allowed: operators, and functions of lathe\.expr",
            logits=lambda score, f=function: f(score),
        )


def test_types_are_told_with_their_line():
    error = traced(
        r"logits, test_expr\.py:\d+: operands of '\+' are f32 and i32.*convert with f32", logits=lambda score, kv: score + kv
    )
    assert error.code == "invalid_argument"
    traced(r"operands of '/' are i32 and i32.*'//' divides", mask=lambda q, kv: q / kv < 2)
    traced(r"operand of '!' is i32", mask=lambda q: ~q)
    traced(r"condition of '\?' is i32", logits=lambda score, kv: le.where(kv, score, 0))
    traced(r"exponent is not a constant", logits=lambda score, kv: score**kv)
    traced(r"operands of 'max' are i32 and f32", mask=lambda kv: le.clamp(kv, 0.5, 2) > 1)
    traced(r"tensor s is read at 2 indices", sink=lambda h: by_head("s")[h, h])
    traced(r"sigmoid: 2 arguments", logits=lambda score: le.sigmoid(score, 2))


def test_what_hooks_may_not_have():
    traced(r"masks: unknown hook; allowed: .*mask", masks=causal)
    traced(r"mask: has a parameter 'score'; allowed inputs: .*kv_pos", mask=lambda score: score > 0)
    traced(r"mask: has the parameter \*", mask=lambda *a: True)
    traced(r"mask: is 'text'; allowed: a function.*parse", mask="text")
    traced(r"mask: gives None", mask=lambda kv: None)
    traced(r"normalizer: is 'max'", normalizer="max", mask=causal)
    traced(r"rotary: is 'gptj'; allowed: 'neox', 'interleaved'", rotary="gptj", mask=causal)
    traced(r"rotary_dims: is 24; allowed: a multiple of 16", rotary_dims=24, mask=causal)
    traced(r"'W' is declared twice", mask=lambda kv: (kv < W) & (kv < le.f32(le.param("W", "f32"))))
    traced(r"allowed: traced values and numbers.*tensor declares", logits=lambda score, h: score + np.zeros(4))
    traced(r"number 4294967296 is outside", mask=lambda kv: kv < 2**32)
    for number in ("nan", "1e-60", "1e+60"):  # 1e-60 became 0
        traced(rf"number {re.escape(number)} is none of f32", logits=lambda score, n=float(number): score + n)
    traced(r"logits, test_expr\.py:\d+: log of", logits=lambda score: le.log(score))
    traced(r'type: is "i64", which is none', mask=lambda kv: le.param("x", "i64") < kv)
    traced(r"axes of tensor t", sink=lambda h: le.tensor("t", "f32", [None])[h])
    traced(r"axis.*HEADS", sink=lambda h: le.tensor("t", "f32", ["HEADS"])[h])
    traced(r"rot.*allowed: the input x", query=lambda x: le.rot(x * 2))


def test_bounds_of_f32_are_those_of_text():
    def scaled(range):
        return le.hooks(logits=lambda score: score * le.param("a", "f32", range))

    text = le.parse("param a: f32 in [0.1, 1]; logits = score * a")
    assert scaled((0.1, 1)).canonical_bytes() == text.canonical_bytes()
    for range in ((1e-50, 1), (0, 1e300)):  # were 0 and inf when printed
        with pytest.raises(lathe.SpecError, match=r"allowed: \[least, greatest\] of f32"):
            scaled(range)


def test_bounds_of_tensors_are_those_of_text():
    def indexed(elem="i32", **bounds):
        t, bs = le.tensor("t", elem, ["TOK"], **bounds), le.tensor("bs", "f32", ["HQ", 6])
        return le.hooks(logits=lambda score, h, tok: score + bs[h, t[tok]])

    text = le.parse("tensor t: i32[TOK] in [0, 5], bs: f32[HQ, 6]; logits = score + bs[h, t[tok]]")
    bounded = indexed(range=(0, 5))
    assert bounded.canonical_bytes() == text.canonical_bytes() and not bounded.warnings()
    assert "tensor t: i32[TOK] in [0, 5];" in bounded.to_text()
    assert le.parse(bounded.to_text()) == bounded and le.Hooks.from_json(bounded.to_json()) == bounded
    assert len({indexed(range=range).canonical_bytes() for range in (None, (0, 5), (0, 4), (1, 5))}) == 4
    assert "in [0, 5]" in indexed().warnings()[0][1]
    assert indexed("u8", range=(0, 5)).canonical_bytes() == indexed("u8", range=[0, np.int64(5)]).canonical_bytes()
    with pytest.raises(lathe.SpecError, match=r"in \[0, 255\] and may leave its axis"):
        indexed("u8", range=(0, 255))
    for elem, range, message in (
        ("i32", (5, 0), r"range \[5, 0\]; allowed: \[least, greatest\] of i32"),
        ("i32", (0, 2.5), r"range \[0, 2.5\]"),
        ("u8", (0, 256), r"of u8, in \[0, 255\]"),
        ("i32", (0, 1e30), r"range \[0, 1e\+30\]"),
        ("i32", (0, math.nan), r"range \[0, nan\]"),
        ("i32", (0,), r"range of tensor t: is \(0,\); allowed: \(lo, hi\)"),
    ):
        with pytest.raises(lathe.SpecError, match=message):
            indexed(elem, range=range)

    def two(first, second):
        return le.hooks(mask=lambda tok, kv: (le.tensor("t", "i32", ["TOK"], range=first)[tok] < kv) & second(tok, kv))

    with pytest.raises(lathe.SpecError, match="'t' is declared twice"):
        two((0, 5), lambda tok, kv: le.tensor("t", "i32", ["TOK"], range=(0, 6))[tok] > kv)


def test_rope():
    hooks = le.parse(le.rope(64, theta=500000.0) + "mask = kv_pos <= q_pos")
    frequency = -math.log2(500000.0) / 32

    def turned(x, d, pos):
        angle = le.f32(pos) * le.exp2(le.f32(d % 32) * frequency)
        return x * le.cos(angle) + le.rot(x) * le.sin(angle)

    written = le.hooks(rotary_dims=64, query=turned, key=turned, mask=causal)
    assert hooks.canonical_bytes() == written.canonical_bytes()
    assert "interleaved(32)" in le.rope(64, dims=32, interleaved=True)
    keys = {le.parse(le.rope(64, scaling=scaling, factor=8)).canonical_bytes() for scaling in ("none", "llama3", "yarn")}
    assert len(keys) == 3
    assert "cos_sin[pos, rope_i]" in le.rope(64, cache=True)
    with pytest.raises(lathe.SpecError, match="dims: is 80"):
        le.rope(64, dims=80)
    with pytest.raises(lathe.SpecError, match='scaling: is "ntk"; allowed: none, llama3, yarn'):
        le.rope(64, scaling="ntk")


def test_text_that_is_refused():
    with pytest.raises(lathe.SpecError, match=r"column \d+"):
        le.parse("mask = kv_pos <= ")


def test_warnings():
    hooks = le.hooks(logits=lambda score, h, q, kv: score + by_head("bs", axes=["HQ", "N"])[h, kv])
    assert hooks.warnings() and all(len(w) == 2 for w in hooks.warnings())
