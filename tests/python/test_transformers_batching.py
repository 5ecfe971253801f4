"""Continuous batching of transformers (generate_batch) on Lathe, with tiny random models."""

import gc

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
import lathe  # noqa: E402
import lathe.frontends.transformers as frontend  # noqa: E402
from tiny_models import (  # noqa: E402
    DTYPES,
    MODELS,
    TOLERANCES,
    is_clear,
    logits,
    make,
    planted,
    tokens,
    with_bugs,
    without_earlier_pages,
    without_mask,
)

gc.freeze()  # generate_batch collects garbage twice; half of its time went into what the imports made

NEW_TOKENS = 16
# Of the 64 tokens of a generation. Two generations are compared up to where they part, and they may where eager's are not clear.
LEAST_CLEAR = {torch.float16: 32, torch.bfloat16: 16}
LEAST_COMPARED = 40
PROMPTS = [tokens(1, length, seed=length)[0].tolist() for length in (9, 23, 3, 14)]


def generated(model, implementation, **options):
    """Greedy tokens of continuous batching, with so few a step that prompts are cut."""
    model.set_attn_implementation(implementation)
    given = transformers.GenerationConfig(max_new_tokens=NEW_TOKENS, do_sample=False, eos_token_id=-1, pad_token_id=0)
    batching = transformers.ContinuousBatchingConfig(num_blocks=32, page_size=16, max_batch_tokens=24, **options)
    results = model.generate_batch(PROMPTS, generation_config=given, continuous_batching_config=batching)
    ordered = sorted(results.values(), key=lambda result: PROMPTS.index(result.prompt_ids))
    assert len(ordered) == len(PROMPTS) and not any(result.error for result in ordered)
    return [result.generated_tokens for result in ordered]


def clear_differences(model, expected, got):
    """Tokens in which two generations part though eager's are clear; of how many clear ones, and of how many compared."""
    differences = all_clear = compared = 0
    for prompt, a, b in zip(PROMPTS, expected, got, strict=True):
        of_eager = logits(model, "eager", torch.tensor([prompt + a]))[0, len(prompt) - 1 : -1]
        clear = is_clear(of_eager, TOLERANCES[model.dtype]).tolist()
        for x, y, apart in zip(a, b, clear, strict=True):
            compared += 1
            all_clear += apart
            differences += apart and x != y
            if x != y:
                break
    return differences, all_clear, compared


def wrong_tokens(model, got):
    """Tokens that eager, after the same ones, has clearly below its first, and how many of its own are clear.

    A batch's steps do not matter to it.
    """
    wrong = all_clear = 0
    for prompt, generation in zip(PROMPTS, got, strict=True):
        of_eager = logits(model, "eager", torch.tensor([prompt + generation]))[0, len(prompt) - 1 : -1]
        chosen = of_eager.gather(-1, torch.tensor(generation, device=of_eager.device)[:, None])[:, 0]
        wrong += int((of_eager.amax(-1) - chosen > 2 * TOLERANCES[model.dtype]).sum())
        all_clear += int(is_clear(of_eager, TOLERANCES[model.dtype]).sum())
    return wrong, all_clear


@DTYPES
@pytest.mark.parametrize("name", MODELS)
def test_continuous_batching(name, dtype):
    model = make(name, dtype)
    ours = generated(model, "lathe")
    wrong, clear = wrong_tokens(model, ours)
    print(f"{clear} clear tokens of {NEW_TOKENS * len(PROMPTS)} after the same ones")
    assert wrong == 0 and clear >= LEAST_CLEAR[dtype]
    assert generated(model, "paged|lathe") == ours
    if name == "gemma2":  # transformers' own leaves soft-caps out
        model = with_bugs(model, name)["no soft-cap"]
        ours = generated(model, "lathe")
    eager = generated(model, "paged|eager")
    differences, clear, compared = clear_differences(model, eager, ours)
    print(f"{clear} clear tokens of {compared} beside paged|eager")
    assert differences == 0 and clear >= LEAST_CLEAR[dtype] and compared >= LEAST_COMPARED, (eager, ours)


@DTYPES
@pytest.mark.parametrize("name", MODELS)
def test_planted_bugs(name, dtype):
    model = make(name, dtype)
    bugged = {what: generated(other, "lathe") for what, other in with_bugs(model, name).items()}
    with planted(without_mask):
        bugged["no mask"] = generated(model, "lathe")
    if name in ("llama", "qwen3"):  # every layer sees all that comes before
        with planted(without_earlier_pages):
            bugged["no earlier pages"] = generated(model, "lathe")
    for what, got in bugged.items():
        wrong, _ = wrong_tokens(model, got)
        print(f"{what}: {wrong} clearly wrong")
        assert wrong > 0, what


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
        with pytest.raises(lathe.SpecError, match=r"layer 0 \(LlamaAttention\).*cu_seq_lens_k: is not given; allowed"):
            frontend.attention(module, x, x, x, None, cache=OldCache(), cu_seq_lens_q=lengths["cu_seq_lens_q"])
        module.is_causal = False
        with pytest.raises(lathe.SpecError, match=r"layer 0 \(LlamaAttention\).*is_causal of the layer: is False; allowed: True"):
            frontend.attention(module, x, x, x, None, cache=OldCache(), **lengths, is_causal=True)
    model.set_attn_implementation("flex_attention")
    with pytest.raises(ValueError, match="flex_attention is not supported for continuous batching"):
        model.generate_batch(PROMPTS)


class OldCache:
    def update(self, key_states, value_states, layer_idx, read_index, write_index):
        raise AssertionError
