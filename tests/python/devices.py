"""Where tests have their tensors: on $LATHE_TEST_DEVICE, which is read once, here.

- ``cpu``, or nothing: the host executor.
- ``cuda``: the GPU. Where there is none, each file is skipped, and says so.
- ``pretended``: a GPU that is not there (pretended_gpu.py), which finds tensors that are on the wrong device, on any machine.

Off the CPU that is PyTorch's default device: a test's tensors are there unless it says another. What stays on the host (lengths
that plans read, random draws, references in fp64) says so.
"""

import importlib.util
import os

import pytest

NAME = os.environ.get("LATHE_TEST_DEVICE") or "cpu"
NAMES = ("cpu", "cuda", "pretended")
if NAME not in NAMES:
    raise ValueError(f"LATHE_TEST_DEVICE: is {NAME!r}; allowed: {', '.join(NAMES)}")
DEVICE = "cpu" if NAME == "cpu" else "cuda"
SHOWN = "cpu" if NAME == "cpu" else "cuda:0"  # as messages have it

# Files that have nothing to put on a GPU, and why.
_ARRAYS, _PYTHON, _PROGRAMS = "arrays of numpy are memory of the host", "no tensors", "programs of their own, on the host"
HOST_FILES = {
    **dict.fromkeys(("attention", "hooks", "kv_formats", "layouts"), _ARRAYS),
    **dict.fromkeys(("docstrings", "errors", "expr", "package", "typing", "compat_signatures", "compat_arguments"), _PYTHON),
    **dict.fromkeys(("docs", "torch_default_device", "torch_library", "compat_peer"), _PROGRAMS),
    **dict.fromkeys(("torch_capture", "torch_cost"), "the null executor is a host device"),
}
_TRACED = "what is traced does not pass by the stand-in"
if NAME == "pretended":
    HOST_FILES["torch_compile"] = _TRACED
    HOST_FILES["gauntlet_rows"] = "the stand-in has no random numbers of its own"
    HOST_FILES["transformers_batching"] = "batching has a thread of its own, of which the stand-in sees nothing"

# Tests that trace calls: torch.compile, opcheck.
traces = pytest.mark.skipif(NAME == "pretended", reason=_TRACED)


def why_not(file):
    """Why a file of tests cannot run there, or None."""
    if NAME == "cpu":
        return None
    if why := HOST_FILES.get(file.removeprefix("test_")):
        return why
    if importlib.util.find_spec("torch") is None:
        return "PyTorch is not installed"
    import torch

    return None if torch.cuda.is_available() else "no CUDA device"


def enter():
    """Before any file is read."""
    if NAME == "pretended":
        import pretended_gpu

        pretended_gpu.enter()
    elif NAME == "cuda" and importlib.util.find_spec("torch") is not None:
        import torch

        if torch.cuda.is_available():
            torch.set_default_device(DEVICE)


def capture(call):
    """A graph of what `call` does, and where its results are after a replay. It runs once before, as kernels load then."""
    import torch
    from lathe.compat import _graphs_on_cpu

    if DEVICE == "cpu":
        captured, capturing = _graphs_on_cpu.CUDAGraph(), _graphs_on_cpu.graph
        call()
    else:
        captured, capturing, stream = torch.cuda.CUDAGraph(), torch.cuda.graph, torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            call()
        torch.cuda.current_stream().wait_stream(stream)
    with capturing(captured):
        results = call()
    return captured, results
