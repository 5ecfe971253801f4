import os
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

SEED = 20261121


@pytest.fixture
def rng():
    import numpy as np

    print(f"seed {SEED}")
    return np.random.default_rng(SEED)


@pytest.fixture
def draw():
    """Normally distributed tensors."""
    import torch

    print(f"seed {SEED}")
    generator = torch.Generator().manual_seed(SEED)

    def normal(*shape, dtype=torch.float16):
        return torch.randn(*shape, generator=generator).to(dtype)

    normal.generator = generator
    return normal


@pytest.fixture(scope="module")
def recorded(request):
    """Notes the calls of a file into the folder $COMPAT_RECORDS, where there is one, for test_compat_arguments.py."""
    from compat_recorder import Recorder

    with Recorder() as recorder:
        yield
    if folder := os.environ.get("COMPAT_RECORDS"):
        path = pathlib.Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        (path / f"{request.module.__name__}.json").write_text(recorder.as_json())
