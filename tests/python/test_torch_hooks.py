"""Variants as Python functions, through PyTorch: the results of lathe.attention, which test_hooks.py compares with fp64."""

import lathe
import lathe.expr as le
import numpy as np
import pytest

torch = pytest.importorskip("torch")
import lathe.torch as lt  # noqa: E402
from devices import DEVICE, NAME, traces  # noqa: E402
from reference import worst  # noqa: E402
from test_hooks import CASES, KEYS, ROWS, VALUES  # noqa: E402
from test_hooks import draw as arrays_of  # noqa: E402
from torch_batches import host  # noqa: E402

LENGTHS = dict(qo_indptr=[0, ROWS], kv_indptr=[0, KEYS])


def draw(rng):
    return [torch.from_numpy(array).to(DEVICE) for array in arrays_of(rng)]


@pytest.mark.parametrize("name", CASES)
def test_variant(rng, name):
    given, arrays = dict(CASES[name][0]), arrays_of(rng)
    values = {tensor: VALUES[tensor] for tensor in given.pop("tensors", {})}
    expected = lathe.attention(*arrays, tensors=values, **given)
    tensors = {tensor: torch.from_numpy(value).to(DEVICE) for tensor, value in values.items()}
    q, k, v = (torch.from_numpy(array).to(DEVICE) for array in arrays)
    got = lt.attention(q, k, v, **LENGTHS, tensors=tensors, **given)
    # The same bits where the same executor runs; what GPUs round differently is below half of what test_hooks.py allows.
    assert worst(host(got), expected) < 1.5e-3 if NAME == "cuda" else np.array_equal(host(got), expected)
    assert not torch.equal(got, lt.attention(q, k, v, **LENGTHS))


@traces
def test_hooks_as_text_in_a_graph(rng):
    q, k, v = draw(rng)
    mask = CASES["window"][0]["mask"]
    text = le.hooks(mask=mask).to_text()

    @torch.compile(fullgraph=True, backend="eager")
    def attend(q, k, v, width):
        return lt.attention(q, k, v, **LENGTHS, hooks=text, params={"W": width})

    for width in (3.0, 4.0, 9.0):
        assert torch.equal(attend(q, k, v, width), lt.attention(q, k, v, **LENGTHS, mask=mask, params={"W": width}))


def test_refusals(rng):
    q, k, v = draw(rng)
    window, alibi = CASES["window"][0]["mask"], CASES["ALiBi"][0]["logits"]
    slopes = torch.ones(4)
    for match, error, given in (
        (r"W: is missing", RuntimeError, dict(mask=window)),
        (
            r"has V, which the hooks do not declare",
            RuntimeError,
            dict(mask=window, params={"W": 3, "V": 3}),
        ),
        (r"param W: is '3'; allowed: a number", lathe.SpecError, dict(mask=window, params={"W": "3"})),
        (r"slopes: is missing", RuntimeError, dict(logits=alibi)),
        (r"slopes: has elements of Double; allowed: Float", RuntimeError, dict(logits=alibi, tensors={"slopes": slopes.double()})),
        (r"slopes: is \[1, 2\]; allowed: a torch.Tensor", lathe.SpecError, dict(logits=alibi, tensors={"slopes": [1, 2]})),
        (r"hooks: is given, and so are functions", lathe.SpecError, dict(logits=alibi, hooks="")),
        (r"mask: has a parameter 'score'", lathe.TraceError, dict(mask=lambda score: score > 0)),
    ):
        with pytest.raises(error, match=match):
            lt.attention(q, k, v, **LENGTHS, **given)
