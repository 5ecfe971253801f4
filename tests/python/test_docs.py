"""Every Python snippet of the documentation, run as it stands; those of one page share their names, top to bottom."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
NEEDS_TORCH = re.compile(r"^(import|from) (torch|lathe\.torch|lathe\.compat)\b", re.M)


def snippets(page):
    text = (ROOT / page).read_text()
    return [(text[: m.start()].count("\n") + 2, m[1]) for m in re.finditer(r"^```python\n(.*?)^```", text, re.M | re.S)]


@pytest.mark.parametrize(
    "page",
    ["README.md", "docs/python.md", "docs/variants.md", "docs/kv-layouts.md", "docs/pytorch.md", "docs/compat-flashinfer.md"],
)
def test_page(page):
    names = {"__name__": "snippet"}
    found = snippets(page)
    assert found
    for line, source in found:
        if NEEDS_TORCH.search(source):
            pytest.importorskip("torch")
        # Lines are the page's, so that a failure points into it.
        exec(compile("\n" * (line - 1) + source, page, "exec"), names)
