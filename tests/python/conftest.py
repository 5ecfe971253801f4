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
