import os
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import devices  # noqa: E402

SEED = 20261121
devices.enter()


class SkippedFile(pytest.Module):
    """One line of the report for a file that cannot run on $LATHE_TEST_DEVICE; nothing of it is read."""

    def collect(self):
        pytest.skip(f"{self.path.name}: {devices.why_not(self.path.stem)}", allow_module_level=True)


def pytest_pycollect_makemodule(module_path, parent):
    return SkippedFile.from_parent(parent, path=module_path) if devices.why_not(module_path.stem) else None


def pytest_report_header():
    return f"tensors on: {devices.NAME}"


@pytest.fixture
def rng():
    import numpy as np

    print(f"seed {SEED}")
    return np.random.default_rng(SEED)


@pytest.fixture
def draw():
    """Normally distributed tensors, the same ones on every device."""
    import torch

    print(f"seed {SEED}")
    generator = torch.Generator("cpu").manual_seed(SEED)

    def normal(*shape, dtype=torch.float16):
        return torch.randn(*shape, generator=generator, device="cpu").to(devices.DEVICE, dtype)

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
