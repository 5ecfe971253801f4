"""Graphs of a GPU through PyTorch: captured once, replayed after each plan, with the results of calls outside of graphs."""

import pytest

torch = pytest.importorskip("torch")
import lathe.compat.flashinfer as flashinfer  # noqa: E402
import lathe.torch as lt  # noqa: E402
from attention_f64 import close  # noqa: E402
from compat_cases import DIM, HEADS, KV, KV_HEADS, PAGE, QO, Pages, buffers, i32, offsets, workspace  # noqa: E402
from devices import DEVICE, NAME, capture  # noqa: E402
from reference import worst  # noqa: E402
from torch_batches import BOUNDS, SPEC, batch_of, draw, expected_of, host  # noqa: E402

pytestmark = pytest.mark.skipif(DEVICE == "cpu", reason="LATHE_TEST_DEVICE is cpu, and graphs are a GPU's")
on_gpu = pytest.mark.skipif(NAME != "cuda", reason="the stand-in has one stream, and kernels that are always there")

BATCHES = [([1, 1, 1, 1], [30, 20, 9, 61]), ([24], [120]), ([], []), ([0, 5], [4, 5]), ([3, 1, 7], [17, 1, 90])]


def inputs(rng):
    return draw(rng, 24, 4, 64), draw(rng, 120, 2, 64), draw(rng, 120, 2, 64)


def write(tensors, values):
    for tensor, value in zip(tensors, values, strict=True):
        tensor.copy_(value)


def check(out, eager, q, k, v, qo, kv):
    rows = int(qo[-1])
    expected, _ = expected_of(q[:rows], k, v, qo, kv, mask="causal")
    assert torch.equal(out, eager) and worst(host(out[:rows]), expected) < 2e-3 and (out[rows:] == 7).all()


@pytest.mark.parametrize("on_device", [False, True])
def test_one_graph_serves_every_batch(rng, on_device):
    """Planned on the host before each replay; or on the device, by the graph, from lengths that are written before each."""
    envelope, other = (lt.Envelope(SPEC, BOUNDS, DEVICE) for _ in range(2))
    kept, out = inputs(rng), torch.full((24, 4, 64), 7.0).half()
    lengths = [torch.tensor([0, 1, 5, 6, 9], dtype=torch.int32), torch.tensor([0, 20, 50, 60, 61], dtype=torch.int32)]
    envelope.plan(qo_indptr=lengths[0].cpu(), kv_indptr=lengths[1].cpu())

    def step():
        if on_device:
            envelope.plan_on_device(qo_indptr=lengths[0], kv_indptr=lengths[1])
        envelope.run(*kept, out)

    graph, _ = capture(step)
    for qo_lens, kv_lens in BATCHES:
        lens = [n + [0] * (4 - len(n)) for n in (qo_lens, kv_lens)] if on_device else (qo_lens, kv_lens)
        qo, kv = batch_of(rng, *lens)
        values, eager = inputs(rng), torch.full_like(out, 7)
        write((*kept, out), (*values, eager))
        if on_device:
            write(lengths, (qo, kv))
        else:
            envelope.plan(qo_indptr=qo, kv_indptr=kv)
        graph.replay()
        other.plan(qo_indptr=qo, kv_indptr=kv)
        other.run(*values, eager)
        check(out, eager, *values, qo, kv)


def test_an_append_is_replayed(rng):
    """With new slots, keys and values in the same memory; padding stays padding."""
    k, v = draw(rng, 5, 2, 64), draw(rng, 5, 2, 64)
    slots, cache = torch.tensor([0, 1, 2, 3, 4]), torch.zeros(3, 2, 8, 2, 64).half()
    graph, _ = capture(lambda: lt.append(k, v, cache, slot_mapping=slots))
    for where in ([9, 3, -1, 20, 0], [23, 22, 21, -1, -1]):
        new = draw(rng, 5, 2, 64), draw(rng, 5, 2, 64)
        write((k, v, slots), (*new, torch.tensor(where)))
        expected = cache.clone().fill_(7)
        lt.append(*new, expected, slot_mapping=torch.tensor(where))
        cache.fill_(7)
        graph.replay()
        assert torch.equal(cache, expected) and (cache != 7).any()


@pytest.mark.parametrize("lengths_on", ["cpu", DEVICE])
def test_decodes_and_prefills_of_a_wrapper(draw, lengths_on):
    """Of `use_cuda_graph=True`; arrays of a plan may be on either side."""
    decode = flashinfer.BatchDecodeWithPagedKVCacheWrapper(workspace(), "NHD", True, False, *buffers(3, 24))
    prefill = flashinfer.BatchPrefillWithPagedKVCacheWrapper(workspace(), "NHD", True, i32(0, 0, 0, 0), *buffers(3, 24))
    cache, q = torch.zeros(30, 2, PAGE, KV_HEADS, DIM).half(), draw(sum(QO), HEADS, DIM)
    graphs = []
    for lens in ([30, 30, 30], KV, [8, 1, 9], [5, 30, 7]):
        pages = Pages(draw, lens)
        cache[: len(pages.cache)] = pages.cache
        arrays = [x.to(lengths_on) for x in pages.arrays]
        decode.plan(*arrays, HEADS, KV_HEADS, DIM, PAGE, logits_soft_cap=1.5)
        qo = [min(n, m) for n, m in zip(QO, lens, strict=True)] if graphs else QO
        prefill.plan(offsets(qo).to(lengths_on), *arrays, HEADS, KV_HEADS, DIM, PAGE, causal=True)
        if not graphs:
            graphs = [capture(lambda: decode.run(q[:3], cache)), capture(lambda: prefill.run(q, cache, return_lse=True))]
        for graph, _ in graphs:
            graph.replay()
        close(graphs[0][1], pages.expected(q[:3], [1, 1, 1], cap=1.5)[0], 3e-3)
        expected, expected_lse = pages.expected(q, qo, causal=True)
        o, lse = graphs[1][1]
        close(o[: sum(qo)], expected, 3e-3)
        close(lse[: sum(qo)], expected_lse, 3e-4)


@on_gpu
def test_the_current_stream(rng):
    """Queued behind what is slow there: were it on another stream, it would see what was there before."""
    envelope, kept = lt.Envelope(SPEC, BOUNDS, DEVICE), inputs(rng)
    qo, kv = batch_of(rng, [3, 1, 7], [17, 1, 90])
    values, out, eager = inputs(rng), torch.full((24, 4, 64), 7.0).half(), torch.full((24, 4, 64), 7.0).half()
    envelope.plan(qo_indptr=qo, kv_indptr=kv)
    envelope.run(*values, eager)
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    for own_plan in (False, True):
        write((*kept, out), (*(torch.zeros_like(x) for x in values), torch.full_like(out, 7)))
        torch.cuda.synchronize()
        with torch.cuda.stream(stream):
            torch.cuda._sleep(200_000_000)  # cycles, a tenth of a second
            write(kept, values)
            if own_plan:
                envelope.plan(qo_indptr=qo, kv_indptr=kv)
            envelope.run(*kept, out)
            one_shot = lt.attention(kept[0][:11], kept[1][:108], kept[2][:108], qo_indptr=qo, kv_indptr=kv, mask="causal")
        stream.synchronize()
        check(out, eager, *values, qo, kv)
        assert worst(host(one_shot), host(eager[:11])) < 1e-3


@on_gpu
def test_a_kernel_that_is_missing_is_named(rng):
    """And nothing is spoiled: the same graph is captured after a run."""
    spec = SPEC.replace(mask="none", lse="log2", head_dim_qk=128, head_dim_vo=128)
    q, k, out, lse = draw(rng, 4, 4, 128), draw(rng, 6, 2, 128), torch.zeros(4, 4, 128).half(), torch.zeros(4, 4)
    lens = dict(qo_indptr=i32(0, 4).cpu(), kv_indptr=i32(0, 6).cpu())

    def attend():
        lt.attention_into(spec.to_json(), q, k, k, out, lse, **lens)

    with pytest.raises(RuntimeError, match=r'"lse":"log2".* has no kernel yet.*run the operator once before the capture'):
        with torch.cuda.graph(torch.cuda.CUDAGraph()):
            attend()
    attend()
    envelope = lt.Envelope(spec, lt.Bounds(num_kv_heads=2, max_batch=1, max_qo_tokens=4, max_kv_entries=6), DEVICE)
    envelope.plan(**lens)
    replayed = torch.zeros_like(out)
    graph, _ = capture(lambda: envelope.run(q, k, k, replayed, lse=lse))
    graph.replay()
    assert worst(host(replayed), host(out)) < 1e-3
