"""Every Python snippet of the documentation, run as it stands; those of one page share their names, top to bottom."""

import pathlib
import re
import subprocess
import sys

import lathe
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
NEEDS = {
    "torch": re.compile(r"^(import|from) (torch|lathe\.torch|lathe\.compat|lathe\.frontends)\b", re.M),
    "transformers": re.compile(r"^(import|from) (transformers|lathe\.frontends\.transformers)\b", re.M),
}


def snippets(page):
    text = (ROOT / page).read_text()
    return [(text[: m.start()].count("\n") + 2, m[1]) for m in re.finditer(r"^```python\n(.*?)^```", text, re.M | re.S)]


PAGES = [page for page in ("README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))) if snippets(page)]


@pytest.mark.parametrize("page", PAGES)
def test_page(page):
    names = {"__name__": "snippet"}
    for line, source in snippets(page):
        for library, needed in NEEDS.items():
            if needed.search(source):
                pytest.importorskip(library)
        # Lines are the page's, so that a failure points into it.
        exec(compile("\n" * (line - 1) + source, page, "exec"), names)


def test_pages_are_found():
    assert {"README.md", "docs/python.md", "docs/pytorch.md", "docs/transformers.md", "docs/kv-layouts.md"} <= set(PAGES)


def test_readme_in_json(tmp_path):
    """`lathe run` with the spec and the batch that follow it, and the variant that is one line."""
    text = (ROOT / "README.md").read_text()
    command = re.search(r"^lathe (run .*)$", text, re.M)[1].split()
    spec, batch, variant = re.findall(r'^(?:with )?`?(\{"(?:op|num_kv_heads)".*?\})`?(?: as the|$)', text, re.M)
    (tmp_path / "spec.json").write_text(spec)
    (tmp_path / "batch.json").write_text(batch)
    done = subprocess.run([sys.executable, "-m", "lathe", *command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "W" in lathe.AttentionSpec.from_json(variant).hooks
