"""Tiny random models of transformers, whose attention decides what they say.

Weights are scaled so that a dropped mask, a window that is off by one, a sink or a soft-cap that is left out moves eager's logits
by at least ten times what is tolerated; the tests assert that too.
"""

import copy
import functools
import unittest.mock

import lathe.torch
import pytest
import torch
import transformers
from devices import DEVICE
from lathe.frontends import transformers as frontend

# Of logits. bf16 rounds 8 times as coarsely as f16 (2^-9 and 2^-12, to nearest), and loses 8 times as much, in eager too
# (test_roundings).
TOLERANCES = {torch.float16: 2e-2, torch.bfloat16: 8 * 2e-2}
# Of the tokens compared, those that are clear: few are in bf16.
LEAST_CLEAR = {torch.float16: 0.75, torch.bfloat16: 0.15}
DTYPES = pytest.mark.parametrize("dtype", TOLERANCES, ids=["f16", "bf16"])
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

# They see both ways.
ENCODERS = {
    "bert": lambda: transformers.BertForMaskedLM(
        transformers.BertConfig(
            vocab_size=128, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
            hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, tie_word_embeddings=False,
        )
    ),
}  # fmt: skip


def make(name, dtype=torch.float16):
    """Drawn on the CPU, so that it is the same one on every device."""
    torch.manual_seed(0)
    with torch.device("cpu"), torch.no_grad():
        model = (MODELS | ENCODERS)[name]()
        for parameter_name, parameter in model.named_parameters():
            if name in ENCODERS:
                if "attention" in parameter_name and parameter.dim() == 2:
                    parameter.normal_(0, 0.3)
                elif "decoder.weight" in parameter_name:
                    parameter.normal_(0, 0.1)
            elif "q_proj" in parameter_name or "k_proj" in parameter_name:
                parameter.normal_(0, 0.35)
            elif "v_proj" in parameter_name or "o_proj" in parameter_name:
                parameter.normal_(0, 0.2)
            elif "sinks" in parameter_name:
                parameter.normal_(1, 1)
            elif "lm_head" in parameter_name:
                parameter.normal_(0, 0.1)
    return model.to(DEVICE, dtype).eval()


@torch.no_grad()
def logits(model, implementation, ids, **options):
    model.set_attn_implementation(implementation)
    return model(input_ids=ids, **options).logits.float()


def tokens(batch, length, seed=1):
    return torch.randint(1, 128, (batch, length), generator=torch.Generator("cpu").manual_seed(seed), device="cpu").to(DEVICE)


def is_clear(of_eager, tolerance):
    """Whether eager's first two logits are further apart than both could be wrong."""
    two = of_eager.topk(2).values
    return two[..., 0] - two[..., 1] > 2 * tolerance


def compare(eager, ours, dtype):
    """Logits of tokens are eager's, and so are the next tokens wherever eager's are clear."""
    error, clear = (eager - ours).abs().max().item(), is_clear(eager, TOLERANCES[dtype])
    print(f"logits {error:.4f} apart; {clear.sum()} of {clear.numel()} next tokens are clear")
    assert error < TOLERANCES[dtype], f"logits are {error} apart"
    assert (eager.argmax(-1) == ours.argmax(-1))[clear].all(), "next tokens differ"
    assert clear.float().mean() > LEAST_CLEAR[dtype], "few next tokens are clear"


def check(model, ids, served=None, **options):
    """lathe's logits of a model, or of another that is served in its place, are eager's, where a token is; gives both."""
    eager, ours = logits(model, "eager", ids, **options), logits(served or model, "lathe", ids, **options)
    real = options.get("attention_mask", torch.ones_like(ids)).bool()
    compare(eager[real], ours[real], model.dtype)
    return eager, ours


def moved(model, ours, ids):
    """How far eager of a model with a planted bug is from ours."""
    return (logits(model, "eager", ids) - ours).abs().max().item()


def with_bugs(model, name):
    """Copies of a model with planted bugs, by what is wrong with them."""
    bugs = {}
    if getattr(model.config, "sliding_window", None):
        for window in (model.config.sliding_window - 1, model.config.sliding_window + 1):
            bugs[f"window {window}"] = other = copy.deepcopy(model)
            other.config.sliding_window = window
            for layer in other.model.layers:
                if getattr(layer.self_attn, "sliding_window", None):
                    layer.self_attn.sliding_window = window
    if name == "gpt_oss":
        bugs["no sink"] = other = copy.deepcopy(model)
        for layer in other.model.layers:
            layer.self_attn.sinks.data.fill_(-1e4)
    if name == "gemma2":
        bugs["no soft-cap"] = other = copy.deepcopy(model)
        for layer in other.model.layers:
            layer.self_attn.attn_logit_softcapping = None
    return bugs


def planted(bug):
    """While it lasts, the front end's calls go through a planted bug."""
    return unittest.mock.patch.object(lathe.torch, "attention", functools.partial(bug, lathe.torch.attention))


def without_mask(attention, *inputs, **options):
    return attention(*inputs, **{**options, "mask": "none", "window": None})


def causal(attention, *inputs, **options):
    return attention(*inputs, **{**options, "mask": "causal"})


def without_earlier_pages(attention, q, k, v, *, qo_indptr, kv_indptr, page_size=16, **options):
    """Packed keys from the page on in which each request's first row is."""
    before = kv_indptr.diff() - qo_indptr.diff()
    starts, ends = kv_indptr[:-1] + before // page_size * page_size, kv_indptr[1:]
    seen = torch.cat([torch.arange(start, end, device=k.device) for start, end in zip(starts, ends, strict=True)])
    indptr = torch.nn.functional.pad((ends - starts).cumsum(0), (1, 0)).int()
    return attention(q, k[seen], v[seen], qo_indptr=qo_indptr, kv_indptr=indptr, **options)


def inexact(attention, *inputs, **options):
    """Results that are wrong by up to 4 roundings more: 2^-6 of themselves in bf16, 2^-9 in f16."""
    o, lse = attention(*inputs, **options)
    error = torch.rand(o.shape, generator=torch.Generator("cpu").manual_seed(0), device="cpu").to(DEVICE) * 2 - 1
    return (o.float() * (1 + 2 * torch.finfo(o.dtype).eps * error)).to(o.dtype), lse
