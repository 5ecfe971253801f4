"""lathe.compat.flashinfer: what is refused leaves a wrapper, its buffers and what was captured of it as they were, bit by bit."""

import functools

import lathe
import pytest

torch = pytest.importorskip("torch")
import lathe.compat.flashinfer as flashinfer  # noqa: E402
from compat_cases import DIM, HEADS, KV, KV_HEADS, PAGE, QO, Pages, buffers, i32, masks_of, offsets, workspace  # noqa: E402
from devices import capture  # noqa: E402

SIZES = HEADS, KV_HEADS, DIM, PAGE
# Other lengths of as many requests, rows and keys, so that a batch in buffers may have them.
OTHER_QO, OTHER_KV = [2, 4, 2], [4, 21, 10]


class Case:
    """A wrapper that was planned: `plan` plans another batch, which `run` would show, `kept` is what a graph reads."""

    def __init__(self, wrapper, plan, run, kept=()):
        self.wrapper, self.plan, self.run, self.kept = wrapper, plan, run, kept


def decode(draw, in_buffers):
    kept = buffers(3, 16) if in_buffers else []
    wrapper = flashinfer.BatchDecodeWithPagedKVCacheWrapper(workspace(), "NHD", in_buffers, False, *kept)
    pages, other, q = Pages(draw), Pages(draw, OTHER_KV), draw(3, HEADS, DIM)
    wrapper.plan(*pages.arrays, *SIZES)

    def plan(last=other.last, head_dim=DIM, **given):
        wrapper.plan(other.indptr, other.indices, last, HEADS, KV_HEADS, head_dim, PAGE, **given)

    return Case(wrapper, plan, functools.partial(wrapper.run, q, pages.cache), kept)


def fast_decode(draw, in_buffers):
    case = decode(draw, in_buffers)
    other = Pages(draw, OTHER_KV)

    def plan(last=other.last, head_dim=DIM, **given):
        arrays = other.indptr, other.indices, last
        flashinfer.fast_decode_plan(case.wrapper, *arrays, HEADS, KV_HEADS, head_dim, PAGE, **given)

    return Case(case.wrapper, plan, case.run, case.kept)


def masks(draw, masked, qo=QO, kv=KV):
    return dict(custom_mask=torch.cat([mask.flatten() for mask in masks_of(draw, qo, kv)])) if masked else {}


def paged(draw, in_buffers, masked=False):
    kept = [i32(0, 0, 0, 0), *buffers(3, 16), *([torch.zeros(64).byte(), i32(0, 0, 0, 0)] if masked else [])] if in_buffers else []
    wrapper = flashinfer.BatchPrefillWithPagedKVCacheWrapper(workspace(), "NHD", in_buffers, *kept)
    pages, other, q = Pages(draw), Pages(draw, OTHER_KV), draw(sum(QO), HEADS, DIM)
    wrapper.plan(offsets(QO), *pages.arrays, *SIZES, **masks(draw, masked))
    mask = masks(draw, masked, OTHER_QO, OTHER_KV)

    def plan(last=other.last, head_dim=DIM, **given):
        arrays = offsets(OTHER_QO), other.indptr, other.indices, last
        wrapper.plan(*arrays, HEADS, KV_HEADS, head_dim, PAGE, **{**mask, **given})

    return Case(wrapper, plan, functools.partial(wrapper.run, q, pages.cache), kept)


def ragged(draw, in_buffers, masked=False):
    kept = [i32(0, 0, 0, 0) for _ in range(2)] + ([torch.zeros(64).byte(), i32(0, 0, 0, 0)] if masked else []) if in_buffers else []
    wrapper = flashinfer.BatchPrefillWithRaggedKVCacheWrapper(workspace(), "NHD", in_buffers, *kept)
    q, k, v = draw(sum(QO), HEADS, DIM), draw(sum(KV), KV_HEADS, DIM), draw(sum(KV), KV_HEADS, DIM)
    wrapper.plan(offsets(QO), offsets(KV), HEADS, KV_HEADS, DIM, **masks(draw, masked))
    mask = masks(draw, masked, OTHER_QO, OTHER_KV)

    def plan(kv=OTHER_KV, head_dim=DIM, **given):
        wrapper.plan(offsets(OTHER_QO), offsets(kv), HEADS, KV_HEADS, head_dim, **{**mask, **given})

    return Case(wrapper, plan, functools.partial(wrapper.run, q, k, v), kept)


def cascade(draw, in_buffers):
    """Of two levels. Where `last` is refused it is so at the second, when the first was planned."""
    pages, q = Pages(draw, [16, *KV]), draw(sum(QO), HEADS, DIM)

    def levels(qo, indptr, last):
        first = int(indptr[1])
        return (
            *([offsets([sum(qo)]), offsets(qo)], [indptr[:2], indptr[1:] - first]),
            *([pages.indices[:first], pages.indices[first:]], [last[:1], last[1:]]),
        )

    arrays = levels(QO, pages.indptr, pages.last)
    names = ("qo_indptr_buf_arr", "paged_kv_indptr_buf_arr", "paged_kv_indices_buf_arr", "paged_kv_last_page_len_buf_arr")
    kept = dict(zip(names, [[torch.zeros_like(x) for x in array] for array in arrays], strict=True)) if in_buffers else {}
    if in_buffers:
        kept["paged_kv_indices_buf_arr"] = [torch.zeros(16, dtype=torch.int32) for _ in arrays[2]]
    wrapper = flashinfer.MultiLevelCascadeAttentionWrapper(2, workspace(), "NHD", in_buffers, **kept)
    wrapper.plan(*arrays, *SIZES)
    other = Pages(draw, [9, *OTHER_KV])

    def plan(last=other.last, head_dim=DIM, **given):
        wrapper.plan(*levels(OTHER_QO, other.indptr, last), HEADS, KV_HEADS, head_dim, PAGE, **given)

    return Case(wrapper, plan, functools.partial(wrapper.run, q, pages.cache), [x for array in kept.values() for x in array])


CASES = {
    "decode": decode,
    "fast decode": fast_decode,
    "paged": paged,
    "paged, masked": functools.partial(paged, masked=True),
    "ragged": ragged,
    "ragged, masked": functools.partial(ragged, masked=True),
    "cascade": cascade,
}
# Refused by numbers, lengths and names, and by what no spec has.
REFUSALS = [dict(window_left="x"), dict(sm_scale=-1.0), dict(head_dim=65), dict(pos_encoding_mode="ROPE")]
SHORT = {"ragged": dict(kv=[4, 21]), "cascade": dict(last=i32(1, 4, 1)), "": dict(last=i32(4, 1))}
# Refused when an envelope is planned, for the most part by the operator.
LONG = {"ragged": dict(kv=[4, 22, 10]), "cascade": dict(last=i32(1, 4, 1, 9)), "": dict(last=i32(4, 1, 9))}


def of(name, table):
    return table.get(name.split(",")[0], table[""])


@pytest.mark.parametrize("in_buffers", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_a_refused_plan_changes_nothing(draw, name, in_buffers):
    case = CASES[name](draw, in_buffers)
    before = case.run()
    if in_buffers:
        captured, replayed = capture(case.run)
    kept = [x.clone() for x in case.kept]
    refusals = [*REFUSALS, of(name, SHORT)]
    if in_buffers:
        long = of(name, LONG) | (dict(custom_mask=None) if "masked" in name else {})
        refusals += [long, long | dict(logits_soft_cap=1.5)]  # which wants another envelope
    for given in refusals:
        with pytest.raises((lathe.SpecError, RuntimeError)):
            case.plan(**given)
        assert all(torch.equal(x, y) for x, y in zip(case.kept, kept, strict=True)), given
        if in_buffers:
            replayed.zero_()
            captured.replay()
            assert torch.equal(replayed, before), given
        assert torch.equal(case.run(), before), given
    case.plan()
    if in_buffers and name != "fast decode":  # which leaves buffers to its caller
        assert not all(torch.equal(x, y) for x, y in zip(case.kept, kept, strict=True))
        captured.replay()
        assert not torch.equal(replayed, before)
    assert not torch.equal(case.run(), before)


@pytest.mark.parametrize("in_buffers", [False, True])
@pytest.mark.parametrize("name", ["decode", "paged", "ragged"])
def test_a_refused_forward_changes_nothing(draw, name, in_buffers):
    """It has options of its own, which hold from then on unless it is refused: by its options, or by the run."""
    case = CASES[name](draw, in_buffers)
    q, *kv = case.run.args
    before = case.run()
    for call in (case.wrapper.forward, case.wrapper.forward_return_lse):
        for x, given in ((q, dict(sm_scale=-1.0)), (q[:1], dict(sm_scale=0.5)), (q[:1], dict(logits_soft_cap=1.5))):
            with pytest.raises(lathe.SpecError):
                call(x, *kv, **given, **(dict(causal=True) if name != "decode" else {}))
            assert torch.equal(case.run(), before), given
    case.wrapper.forward(q, *kv, sm_scale=0.5)
    assert not torch.equal(case.run(), before)
