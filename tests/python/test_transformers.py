"""Tiny random models: attn_implementation="lathe" against "eager"."""

import contextlib
import copy

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
import lathe  # noqa: E402
import lathe.frontends.transformers as frontend  # noqa: E402
from devices import DEVICE  # noqa: E402
from lathe.frontends.masks import runs_of  # noqa: E402
from tiny_models import (  # noqa: E402
    DTYPES,
    ENCODERS,
    MODELS,
    TOLERANCES,
    causal,
    check,
    compare,
    inexact,
    logits,
    make,
    moved,
    planted,
    tokens,
    with_bugs,
    without_mask,
)

TOLERANCE = TOLERANCES[torch.float16]


@DTYPES
@pytest.mark.parametrize("name", MODELS)
def test_prefill(name, dtype):
    model, ids, far = make(name, dtype), tokens(2, 21), 10 * TOLERANCES[dtype]
    _, ours = check(model, ids)
    everything = torch.zeros(2, 1, 21, 21, dtype=dtype)
    mask = everything if name in ("llama", "qwen3", "mistral") else {"full_attention": everything, "sliding_attention": everything}
    assert (logits(model, "eager", ids, attention_mask=mask) - ours).abs().max() > far
    with planted(without_mask), pytest.raises(AssertionError, match="logits are"):
        check(model, ids)
    for what, other in with_bugs(model, name).items():
        assert moved(other, ours, ids) > far, what
        with pytest.raises(AssertionError, match="logits are"):
            check(model, ids, served=other)


@pytest.mark.parametrize("name", [*MODELS, *ENCODERS])
def test_roundings(name):
    """Logits are as near as eager's to those of the same rounded weights in f32, and 8 times as far in bf16 as in f16.

    Of 4 to 8 batches, of seeds up to 44, lathe's root mean square was 0.88 to 1.02 times eager's, its largest 0.45 to 1.31 times.
    """
    batches, rms, largest = [tokens(2, 21, seed) for seed in range(1, 9)], {}, {}
    for dtype in TOLERANCES:
        model = make(name, dtype)
        exact = copy.deepcopy(model).float()
        for what, bug in (("eager", None), ("lathe", None), ("lathe", inexact)):
            with planted(bug) if bug else contextlib.nullcontext():
                errors = torch.stack([logits(model, what, ids) - logits(exact, "eager", ids) for ids in batches])
            of = f"{bug.__name__} {what}" if bug else what
            rms[of, dtype], largest[of, dtype] = errors.square().mean().sqrt().item(), errors.abs().max().item()
            print(f"{name} {dtype} {of}: {rms[of, dtype]:.5f}, at most {largest[of, dtype]:.4f}; seeds 1 to 8")
        assert rms["lathe", dtype] < 1.1 * rms["eager", dtype] < rms["inexact lathe", dtype]
        assert largest["lathe", dtype] < 1.5 * largest["eager", dtype]
    for what in ("lathe", "eager"):
        assert 7 < rms[what, torch.bfloat16] / rms[what, torch.float16] < 9


@DTYPES
@pytest.mark.parametrize("name", ["llama", "mistral", "gpt_oss"])
def test_padding(name, dtype):
    model, ids, far = make(name, dtype), tokens(3, 17), 10 * TOLERANCES[dtype]
    lengths = torch.tensor([17, 9, 1])
    right = (torch.arange(17)[None] < lengths[:, None]).long()
    left = right.flip(1)
    for mask in (right, left):
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        _, ours = check(model, ids, attention_mask=mask, position_ids=positions)
        # A mask that is dropped where padding comes first shows it; behind the tokens nobody sees it.
        unpadded = logits(model, "eager", ids, position_ids=positions)
        assert ((unpadded - ours)[mask.bool()].abs().max() > far) == (mask is left)


@DTYPES
@pytest.mark.parametrize("name", ["llama", "mistral", "gemma2", "gpt_oss"])
def test_decode_with_a_cache(name, dtype):
    model, ids = make(name, dtype), tokens(2, 21)
    whole = logits(model, "eager", ids)
    model.set_attn_implementation("lathe")
    cache, steps = None, []
    with torch.no_grad():
        for part in (ids[:, :7], *ids[:, 7:].split(1, dim=1)):
            out = model(input_ids=part, past_key_values=cache, use_cache=True)
            cache = out.past_key_values
            steps.append(out.logits.float())
    ours = torch.cat(steps, 1)
    compare(whole, ours, dtype)
    for what, other in with_bugs(model, name).items():
        assert moved(other, ours, ids) > 10 * TOLERANCES[dtype], what


def test_generate():
    model, ids = make("llama"), tokens(2, 9)
    mask = torch.ones_like(ids)
    mask[1, :4] = 0
    texts = []
    for implementation in ("eager", "lathe"):
        model.set_attn_implementation(implementation)
        texts.append(model.generate(ids, attention_mask=mask, max_new_tokens=6, do_sample=False))
    assert (texts[0] == texts[1]).all()


@DTYPES
def test_an_encoder_that_sees_both_ways(dtype):
    model, ids, far = make("bert", dtype), tokens(2, 12), 10 * TOLERANCES[dtype]
    check(model, ids)
    mask = torch.ones_like(ids)
    mask[1, 7:] = 0
    _, ours = check(model, ids, attention_mask=mask)
    assert (logits(model, "eager", ids) - ours)[mask.bool()].abs().max() > far
    with planted(causal), pytest.raises(AssertionError, match="logits are"):
        check(model, ids, attention_mask=mask)


def refused(match, model, **options):
    model.set_attn_implementation("lathe")
    with pytest.raises(lathe.SpecError, match=match):
        model(input_ids=tokens(1, 5), **options)


def one_layer(seed=3, rows=5, keys=5):
    """A layer of Llama, and its query, key and value, one head for each key's."""
    print(f"seed {seed}")
    random = torch.Generator("cpu").manual_seed(seed)
    q, k, v = (torch.randn(1, 2, n, 16, generator=random, device="cpu").to(DEVICE).half() for n in (rows, keys, keys))
    return make("llama").model.layers[0].self_attn, q, k, v


def expected(q, k, v, visible):
    o = torch.nn.functional.scaled_dot_product_attention(q.float(), k.float(), v.float(), attn_mask=visible)
    return o.transpose(1, 2)


@torch.no_grad()
@pytest.mark.parametrize("inference", [False, True])
def test_a_mask_that_is_written_to(inference):
    module, q, k, v = one_layer()
    with torch.inference_mode(inference):
        mask = torch.ones(1, 1, 5, 5, dtype=torch.bool).tril()
        for _ in range(2):  # the same one for every layer
            o, _ = frontend.attention(module, q, k, v, mask)
            assert (o - expected(q, k, v, mask)).abs().max() < TOLERANCE
        mask.fill_(True)
        o, _ = frontend.attention(module, q, k, v, mask)
        assert (o - expected(q, k, v, mask)).abs().max() < TOLERANCE
        assert (o - expected(q, k, v, mask.tril())).abs().max() > 10 * TOLERANCE


@torch.no_grad()
def test_no_mask():
    """is_causal of the call comes before that of the layer, as in transformers; windows and packed lengths are refused."""
    module, q, k, v = one_layer()
    everything = torch.ones(5, 5, dtype=torch.bool)
    module.is_causal = False
    for given, visible in (
        (dict(is_causal=True), everything.tril()),
        (dict(is_causal=False), everything),
        (dict(), everything),
        (dict(sliding_window=5), everything),
    ):
        o, _ = frontend.attention(module, q, k, v, None, **given)
        assert (o - expected(q, k, v, visible)).abs().max() < TOLERANCE
    module.is_causal = True
    o, _ = frontend.attention(module, q, k, v, None, is_causal=False)
    assert (o - expected(q, k, v, everything)).abs().max() < TOLERANCE
    assert (o - expected(q, k, v, everything.tril())).abs().max() > 10 * TOLERANCE
    last, _ = frontend.attention(module, q[:, :, 4:], k, v, None, is_causal=True)
    assert (last - o[:, 4:]).abs().max() < TOLERANCE
    for match, rows, given in (
        (r"sliding_window: is 2 without a mask, for 5 keys", 5, dict(is_causal=False, sliding_window=2)),
        (r"is_causal: is True without a mask, for 3 rows and 5 keys", 3, dict(is_causal=True)),
        (r"cu_seq_lens_q: is given without a mask", 5, dict(is_causal=False, cu_seq_lens_q=torch.tensor([0, 2, 5]))),
    ):
        with pytest.raises(lathe.SpecError, match=r"layer 0 \(LlamaAttention\).*" + match):
            frontend.attention(module, q[:, :, :rows], k, v, None, **given)


def test_refusals():
    model = make("llama")
    refused(r"layer 0 \(LlamaAttention\).*requires a gradient", model)
    with torch.no_grad():
        refused(r"layer 0 \(LlamaAttention\).*torch.float32; allowed: torch.float16, torch.bfloat16", make("llama").float())
        bias = torch.randn(1, 1, 5, 5, dtype=torch.float16)
        refused(r"attention_mask: adds to scores", model, attention_mask=bias)
        holes = torch.tensor([1, 0, 1, 1, 1], dtype=torch.bool).expand(1, 1, 5, 5) & torch.ones(5, 5, dtype=torch.bool).tril()
        refused(r"attention_mask: shows row 2 of sequence 0 keys 0\.\.2 with holes", model, attention_mask=holes)
        training = make("llama").train()
        training.config.attention_dropout = 0.5
        for layer in training.model.layers:
            layer.self_attn.attention_dropout = 0.5
        refused(r"dropout: is 0.5; allowed: 0", training)
    query = torch.zeros(1, 4, 5, 16, dtype=torch.float16)
    with torch.no_grad(), pytest.raises(lathe.SpecError, match="attention_mask: is None in a causal layer"):
        frontend.attention(model.model.layers[0].self_attn, query, query, query, None)
    with torch.no_grad(), pytest.raises(lathe.SpecError, match="position_bias: is given"):
        frontend.attention(model.model.layers[0].self_attn, query, query, query, None, position_bias=query)


def seen_by(runs, rows, keys):
    """The mask that requests stand for, from the definition of causal and window."""
    visible = torch.zeros(rows, keys, dtype=torch.bool, device="cpu")
    for b in range(len(runs.qo_indptr) - 1):
        r0, r1 = runs.qo_indptr[b : b + 2].tolist()
        e0, e1 = runs.kv_indptr[b : b + 2].tolist()
        for row in range(r0, r1):
            q_pos = row - r0 + (e1 - e0) - (r1 - r0)
            for at, key in enumerate(runs.kv_indices[e0:e1].tolist()):
                causal = runs.mask == "none" or at <= q_pos
                inside = runs.window is None or q_pos - at < runs.window
                visible[row, key] |= causal and inside
    return visible


@pytest.mark.parametrize("seed", range(40))
def test_runs_show_what_the_mask_shows(seed):
    """Random masks without holes: bands, blocks, paddings, and rows that follow no rule."""
    print(f"seed {seed}")
    random = torch.Generator("cpu").manual_seed(seed)

    def draw(low, high):
        return int(torch.randint(low, high + 1, (1,), generator=random, device="cpu"))

    batch, rows, keys = draw(1, 3), draw(1, 12), draw(1, 12)
    i, j = torch.arange(rows)[:, None] + draw(-3, 3), torch.arange(keys)[None]
    visible = torch.ones(batch, rows, keys, dtype=torch.bool)
    for b in range(batch):
        kind = draw(0, 4)
        if kind in (0, 1):
            visible[b] &= j <= i
        if kind in (1, 2):
            visible[b] &= (i - j < draw(1, 6)) & (j - i < draw(1, 6))
        if kind == 3:
            visible[b] &= (i // 4 == j // 4) & (j <= i)
        if kind == 4:
            low = torch.randint(0, keys, (rows, 1), generator=random, device="cpu").to(DEVICE)
            visible[b] = (j >= low) & (j < low + torch.randint(0, keys, (rows, 1), generator=random, device="cpu").to(DEVICE))
        visible[b] &= (j >= draw(0, 2)) & (j < keys - draw(0, 2))
    runs = runs_of(visible)
    got = seen_by(runs, batch * rows, batch * keys)
    expected = torch.block_diag(*visible.int().cpu()).bool()
    assert torch.equal(got, expected), runs
