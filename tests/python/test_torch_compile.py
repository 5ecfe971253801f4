"""The operators under torch.compile: the same results, one graph without breaks, and none anew when lengths change."""

import pytest

torch = pytest.importorskip("torch")
import lathe.torch as lt  # noqa: E402
from devices import DEVICE  # noqa: E402
from reference import worst  # noqa: E402
from torch._dynamo.utils import counters  # noqa: E402
from torch_batches import BOUNDS, SPEC, batch_of, draw, expected_of, host, i32, step  # noqa: E402

BATCHES = 50


@pytest.fixture(params=["eager", "aot_eager", "inductor"])
def backend(request, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch._dynamo.reset()
    counters.clear()
    return request.param


def check_one_graph():
    assert counters["stats"]["unique_graphs"] == 1 and not counters["recompiles"] and not counters["graph_break"], counters


def test_one_envelope_serves_every_batch(rng, backend):
    envelope = lt.Envelope(SPEC, BOUNDS, DEVICE)

    @torch.compile(fullgraph=True, backend=backend)
    def run(q, k, v, out):
        return envelope.run(q * 1, k, v, out) + 0

    for i in range(BATCHES):
        step(rng, envelope, [1, 1 + i % 5, 1], [1 + (i * 7) % 30, 20, 1 + i], on_device=False, run=run)
    check_one_graph()


def test_new_lengths(rng, backend):
    """Every batch has other shapes, as well as other lengths."""

    @torch.compile(fullgraph=True, dynamic=True, backend=backend)
    def attend(q, k, v, qo, kv):
        return lt.attention(q, k, v, qo_indptr=qo, kv_indptr=kv, mask="causal") * 2

    for n in range(3, 3 + BATCHES):
        qo, kv = batch_of(rng, [n, 1, n], [n + 4, 30, n])
        q, k, v = draw(rng, 2 * n + 1, 4, 64), draw(rng, 2 * n + 34, 2, 64), draw(rng, 2 * n + 34, 2, 64)
        expected, _ = expected_of(q, k, v, qo, kv, mask="causal")
        assert worst(host(attend(q, k, v, qo, kv)) / 2, expected) < 2e-3
    check_one_graph()


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
