"""Tiny random models: attn_implementation="lathe" against "eager", on a CPU.

Weights are scaled so that a dropped mask, a window that is off by one or a sink that is left out moves eager's logits by at
least ten times what is tolerated; each test asserts that too.
"""

import copy

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
import lathe  # noqa: E402
import lathe.frontends.transformers as frontend  # noqa: E402
from lathe.frontends.masks import runs_of  # noqa: E402

TOLERANCE = 2e-2
frontend.register()
frontend.register()  # again

COMMON = {
    "vocab_size": 128,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 128,
    "attention_dropout": 0.0,
    "tie_word_embeddings": False,
    "pad_token_id": 0,
    "eos_token_id": None,
    "bos_token_id": None,
}
ROPE = {"rope_type": "default", "rope_theta": 1e4}

MODELS = {
    "llama": lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**COMMON)),
    "qwen3": lambda: transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**COMMON)),
    "mistral": lambda: transformers.MistralForCausalLM(transformers.MistralConfig(**COMMON, sliding_window=5)),
    "gemma2": lambda: transformers.Gemma2ForCausalLM(
        transformers.Gemma2Config(**COMMON, sliding_window=5, query_pre_attn_scalar=16, attn_logit_softcapping=4.0)
    ),
    "gpt_oss": lambda: transformers.GptOssForCausalLM(
        transformers.GptOssConfig(**COMMON, sliding_window=5, num_local_experts=2, num_experts_per_tok=1, rope_parameters=ROPE)
    ),
}  # fmt: skip


def make(name):
    torch.manual_seed(0)
    model = MODELS[name]()
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if "q_proj" in parameter_name or "k_proj" in parameter_name:
                parameter.normal_(0, 0.35)
            elif "v_proj" in parameter_name or "o_proj" in parameter_name:
                parameter.normal_(0, 0.2)
            elif "sinks" in parameter_name:
                parameter.normal_(1, 1)
            elif "lm_head" in parameter_name:
                parameter.normal_(0, 0.1)
    return model.to(torch.float16).eval()


@torch.no_grad()
def logits(model, implementation, ids, **options):
    model.set_attn_implementation(implementation)
    return model(input_ids=ids, **options).logits.float()


def tokens(batch, length, seed=1):
    return torch.randint(1, 128, (batch, length), generator=torch.Generator().manual_seed(seed))


def check(model, ids, **options):
    """lathe's logits are eager's, where a token is; gives eager's."""
    eager, ours = logits(model, "eager", ids, **options), logits(model, "lathe", ids, **options)
    real = options.get("attention_mask", torch.ones_like(ids)).bool()
    error = (eager - ours)[real].abs().max().item()
    assert error < TOLERANCE, error
    two = eager[real].topk(2).values
    clear = two[:, 0] - two[:, 1] > 2 * TOLERANCE
    assert (eager[real].argmax(-1) == ours[real].argmax(-1))[clear].all() and clear.float().mean() > 0.5
    return eager, ours


def moved(model, ours, ids):
    """How far eager of a model with a planted bug is from ours."""
    return (logits(model, "eager", ids) - ours).abs().max().item()


@pytest.mark.parametrize("name", MODELS)
def test_prefill(name):
    model, ids = make(name), tokens(2, 21)
    _, ours = check(model, ids)
    everything = torch.zeros(2, 1, 21, 21, dtype=torch.float16)
    mask = everything if name in ("llama", "qwen3", "mistral") else {"full_attention": everything, "sliding_attention": everything}
    assert (logits(model, "eager", ids, attention_mask=mask) - ours).abs().max() > 10 * TOLERANCE
    if getattr(model.config, "sliding_window", None):
        for window in (4, 6):
            other = copy.deepcopy(model)
            other.config.sliding_window = window
            assert moved(other, ours, ids) > 10 * TOLERANCE
    if name == "gpt_oss":
        other = copy.deepcopy(model)
        for layer in other.model.layers:
            layer.self_attn.sinks.data.fill_(-1e4)
        assert moved(other, ours, ids) > 10 * TOLERANCE


@pytest.mark.parametrize("name", ["llama", "mistral", "gpt_oss"])
def test_padding(name):
    model, ids = make(name), tokens(3, 17)
    lengths = torch.tensor([17, 9, 1])
    right = (torch.arange(17)[None] < lengths[:, None]).long()
    check(model, ids, attention_mask=right)
    left = right.flip(1)
    check(model, ids, attention_mask=left, position_ids=(left.cumsum(1) - 1).clamp(min=0))


@pytest.mark.parametrize("name", ["llama", "mistral", "gemma2", "gpt_oss"])
def test_decode_with_a_cache(name):
    model, ids = make(name), tokens(2, 14)
    whole = logits(model, "eager", ids)
    model.set_attn_implementation("lathe")
    cache, steps = None, []
    with torch.no_grad():
        for part in (ids[:, :7], *ids[:, 7:].split(1, dim=1)):
            out = model(input_ids=part, past_key_values=cache, use_cache=True)
            cache = out.past_key_values
            steps.append(out.logits.float())
    assert (torch.cat(steps, 1) - whole).abs().max() < TOLERANCE


def test_generate():
    model, ids = make("llama"), tokens(2, 9)
    mask = torch.ones_like(ids)
    mask[1, :4] = 0
    texts = []
    for implementation in ("eager", "lathe"):
        model.set_attn_implementation(implementation)
        texts.append(model.generate(ids, attention_mask=mask, max_new_tokens=6, do_sample=False))
    assert (texts[0] == texts[1]).all()


PROMPTS = [tokens(1, length, seed=length)[0].tolist() for length in (9, 23, 3, 14)]


def generated(model, implementation, **options):
    """Greedy tokens of continuous batching, with so few a step that prompts are cut."""
    model.set_attn_implementation(implementation)
    given = transformers.GenerationConfig(max_new_tokens=8, do_sample=False, eos_token_id=-1, pad_token_id=0)
    batching = transformers.ContinuousBatchingConfig(num_blocks=32, page_size=16, max_batch_tokens=24, **options)
    results = model.generate_batch(PROMPTS, generation_config=given, continuous_batching_config=batching)
    ordered = sorted(results.values(), key=lambda result: PROMPTS.index(result.prompt_ids))
    assert len(ordered) == len(PROMPTS) and not any(result.error for result in ordered)
    return [result.generated_tokens for result in ordered]


def clear_differences(model, expected, got):
    """Tokens in which two generations part where eager's first two logits are clearly apart, and how many were compared."""
    differences = compared = 0
    for prompt, a, b in zip(PROMPTS, expected, got, strict=True):
        two = logits(model, "eager", torch.tensor([prompt + a]))[0, len(prompt) - 1 : -1].topk(2).values
        clear = (two[:, 0] - two[:, 1] > 2 * TOLERANCE).tolist()
        for x, y, apart in zip(a, b, clear, strict=True):
            compared += 1
            differences += apart and x != y
            if x != y:
                break
    return differences, compared


@pytest.mark.parametrize("name", ["llama", "qwen3", "mistral", "gpt_oss"])
def test_continuous_batching(name):
    model = make(name)
    eager, ours = generated(model, "paged|eager"), generated(model, "lathe")
    differences, compared = clear_differences(model, eager, ours)
    assert differences == 0 and compared >= 20, (eager, ours)
    assert generated(model, "paged|lathe") == ours
    if getattr(model.config, "sliding_window", None):
        for window in (4, 6):
            other = copy.deepcopy(model)
            other.config.sliding_window = window
            for layer in other.model.layers:
                if getattr(layer.self_attn, "sliding_window", None):
                    layer.self_attn.sliding_window = window
            assert clear_differences(other, generated(other, "paged|eager"), ours)[0] > 0
    if name == "gpt_oss":
        other = make(name)
        for layer in other.model.layers:
            layer.self_attn.sinks.data.fill_(-1e4)
        assert clear_differences(other, generated(other, "paged|eager"), ours)[0] > 0


def test_refusals_of_continuous_batching():
    model = make("llama")
    module, x = model.model.layers[0].self_attn, torch.zeros(1, 4, 5, 16, dtype=torch.float16)
    lengths = dict(cu_seq_lens_q=torch.tensor([0, 5]), cu_seq_lens_k=torch.tensor([0, 5]))
    with torch.no_grad():
        for match, given in (
            (r"layer 0 \(LlamaAttention\).*is_causal: is False; allowed: True", dict(is_causal=False)),
            (r"block_table: is tensor\(\[0\]\); allowed: None", dict(block_table=torch.tensor([0]))),
            (r"transformers: has another cache", {}),
            (r"read_indices: is given", dict(read_indices=1)),
        ):
            with pytest.raises(lathe.SpecError, match=match):
                frontend.attention(module, x, x, x, None, cache=OldCache(), **lengths, **given)
        module.is_causal = False
        with pytest.raises(lathe.SpecError, match=r"layer 0 \(LlamaAttention\).*is_causal of the layer: is False; allowed: True"):
            frontend.attention(module, x, x, x, None, cache=OldCache(), **lengths, is_causal=True)
    model.set_attn_implementation("flex_attention")
    with pytest.raises(ValueError, match="flex_attention is not supported for continuous batching"):
        model.generate_batch(PROMPTS)


class OldCache:
    def update(self, key_states, value_states, layer_idx, read_index, write_index):
        raise AssertionError


def test_an_encoder_that_sees_both_ways():
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=128, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    model = transformers.BertModel(config, add_pooling_layer=False)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "attention" in name and name.endswith("weight") and "LayerNorm" not in name:
                parameter.normal_(0, 0.3)
    model = model.to(torch.float16).eval()
    ids = tokens(2, 12)
    mask = torch.ones_like(ids)
    mask[1, 7:] = 0
    hidden = {}
    with torch.no_grad():
        for implementation in ("eager", "lathe"):
            model.set_attn_implementation(implementation)
            hidden[implementation] = model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        model.set_attn_implementation("eager")
        without = model(input_ids=ids).last_hidden_state.float()
    real = mask.bool()
    assert (hidden["eager"] - hidden["lathe"])[real].abs().max() < TOLERANCE
    assert (without - hidden["lathe"])[real].abs().max() > 10 * TOLERANCE


def refused(match, model, **options):
    model.set_attn_implementation("lathe")
    with pytest.raises(lathe.SpecError, match=match):
        model(input_ids=tokens(1, 5), **options)


def one_layer(seed=3, rows=5, keys=5):
    """A layer of Llama, and its query, key and value, one head for each key's."""
    print(f"seed {seed}")
    random = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(1, 2, n, 16, generator=random).half() for n in (rows, keys, keys))
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
    visible = torch.zeros(rows, keys, dtype=torch.bool)
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
    random = torch.Generator().manual_seed(seed)

    def draw(low, high):
        return int(torch.randint(low, high + 1, (1,), generator=random))

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
            low = torch.randint(0, keys, (rows, 1), generator=random)
            visible[b] = (j >= low) & (j < low + torch.randint(0, keys, (rows, 1), generator=random))
        visible[b] &= (j >= draw(0, 2)) & (j < keys - draw(0, 2))
    runs = runs_of(visible)
    got = seen_by(runs, batch * rows, batch * keys)
    expected = torch.block_diag(*visible.int()).bool()
    assert torch.equal(got, expected), runs
