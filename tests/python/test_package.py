"""The rest of the package: specs as values, the command, warming, the cache, statistics."""

import json
import subprocess
import sys

import lathe
import pytest

SPEC = dict(q_dtype="f16", o_dtype="f16", group_size=2, head_dim_qk=64, head_dim_vo=64, layout="ragged", mask="causal")


def test_specs_are_values():
    spec = lathe.AttentionSpec(**SPEC)
    assert spec == lathe.AttentionSpec.from_json(spec.to_json())
    assert spec == eval(repr(spec), {"AttentionSpec": lathe.AttentionSpec})
    assert hash(spec) == hash(lathe.AttentionSpec(**SPEC)) and spec != "spec"
    assert spec.mask == "causal" and spec.group_size == 2 and spec.layout["kind"] == "ragged" and spec.kfmt == "f16"
    assert spec.replace(mask="none").mask == "none" and spec.mask == "causal"
    assert spec.replace(label="a").canonical_bytes() == spec.canonical_bytes() != spec.replace(lse="ln").canonical_bytes()
    paged = spec.replace(layout={"kind": "paged"})
    assert paged.replace(layout={"page_size": 32}).layout == {**paged.layout, "page_size": 32}
    assert "causal" in str(spec)
    with pytest.raises(AttributeError):
        spec.mask = "none"


def test_fields_are_those_of_the_cpp_list():
    paths = [field["path"] for field in lathe.spec.fields()]
    assert "layout.page_size" in paths and len(paths) == len(set(paths))
    spec = lathe.AttentionSpec(**SPEC)
    for path in paths:
        assert hasattr(spec, path.split(".")[0])
    # The typed keywords are the same.
    assert set(lathe.spec.AttentionFields.__annotations__) >= {path.split(".")[0] for path in paths}
    assert set(lathe.spec.LayoutFields.__annotations__) == {p.split(".")[1] for p in paths if p.startswith("layout.")}


def lathe_command(*arguments):
    return subprocess.run([sys.executable, "-m", "lathe", *arguments], capture_output=True, text=True, check=False)


def test_the_command():
    shown = lathe_command("--version")
    assert shown.returncode == 0 and shown.stdout.strip() == f"lathe {lathe.__version__}"
    refused = lathe_command("explain", "--spec", "{")
    assert refused.returncode == 2 and "not JSON" in refused.stderr


def test_explain():
    text = lathe.explain(lathe.AttentionSpec(**SPEC), {"num_kv_heads": 2, "qo_lens": [1, 30], "kv_lens": [300, 30]})
    assert "Tile classes, host" in text and "Schedule" in text
    with pytest.raises(lathe.SpecError, match="kv_lens|qo_lens"):
        lathe.explain(lathe.AttentionSpec(**SPEC), {"num_kv_heads": 2, "qo_lens": [1]})
    with pytest.raises(lathe.SpecError, match="spec: is a dict; allowed: a lathe.AttentionSpec"):
        lathe.explain({})
    with pytest.raises(lathe.SpecError, match="batch: is"):
        lathe.explain(lathe.AttentionSpec(**SPEC), {"num_kv_heads": object()})


def test_warmup_cache_and_stats():
    spec = lathe.AttentionSpec(**SPEC)
    told = []
    report = lathe.warmup([spec, spec.replace(label="again")], progress=lambda *what: told.append(what))
    assert report.compiled + report.found == 1 and not report.failed
    assert [(done, total) for done, total, _ in told] == [(1, 1)]
    several = [spec.replace(mask=mask, lse=lse) for mask in ("none", "causal") for lse in ("none", "ln")]
    told.clear()
    report = lathe.warmup(several, jobs=2, progress=lambda *what: told.append(what))
    assert report.compiled + report.found == 4
    assert [(done, total) for done, total, _ in told] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    again = lathe.warmup([spec], progress=False)
    assert (again.compiled, again.found) == (0, 1) and str(again) == "0 compiled, 1 there already, 0 failed"
    assert lathe.stats()["memory_hits"] >= 1 and lathe.stats()["cache"]["errors"] == 0
    if lathe.cache.writable():
        assert lathe.cache.root() and any(entry.bytes > 1000 for entry in lathe.cache.entries())
        assert "sound" in lathe.cache.verify()
        assert "left" in lathe.cache.trim(1 << 30)
    for wrong in (0, 65, True, "4"):
        with pytest.raises(lathe.SpecError, match="jobs: is"):
            lathe.warmup([spec], jobs=wrong)
    with pytest.raises(lathe.SpecError, match="specs: holds a dict"):
        lathe.warmup([json.loads(spec.to_json())])
    with pytest.raises(lathe.SpecError, match="specs: is None; allowed: several lathe.AttentionSpec"):
        lathe.warmup(None)
    with pytest.raises(lathe.SpecError, match="progress: is 'yes'; allowed: None, True, False"):
        lathe.warmup([spec], progress="yes")
    with pytest.raises(lathe.SpecError, match="max_bytes: is -1"):
        lathe.cache.trim(-1)


def test_warmup_shows_progress(capsys, monkeypatch):
    """On a terminal, or when it is asked to."""
    spec = lathe.AttentionSpec(**SPEC)
    for terminal, asked, shown in ((False, None, 0), (True, None, 2), (True, False, 0), (False, True, 2)):
        monkeypatch.setattr("sys.stderr.isatty", lambda terminal=terminal: terminal)
        lathe.warmup([spec, spec.replace(mask="none")], progress=asked)
        err = capsys.readouterr().err
        assert [f"[{n}/2] attention f16" in err for n in (1, 2)].count(True) == shown, (terminal, asked, err)


def test_a_kernel_that_cannot_be_had(tmp_path):
    # In a process of its own: knobs are read when the engine is made.
    program = f"""
import lathe
spec = lathe.AttentionSpec(**{SPEC!r})
report = lathe.warmup([spec], progress=False)
(name, error), = report.failed
assert isinstance(error, lathe.UnavailableError) and "attention f16" in str(error), error
try:
    lathe.Attention(spec)
except lathe.UnavailableError as error:
    print(error.code)
"""
    environment = {"LATHE_CACHE_DIR": str(tmp_path / "cache"), "LATHE_JIT": "off", "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0 and done.stdout.strip() == "unavailable", done.stderr
