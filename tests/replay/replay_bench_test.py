"""bench/plan/replay.py on a small trace: what it runs, records and skips.

usage: replay_bench_test.py REPLAY_PY LATHE
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path


def main():
    script, lathe = sys.argv[1:]
    folder = Path(tempfile.mkdtemp(prefix="lathe-replay-"))
    trace = folder / "azure_llm_2023_code.csv"
    rows = "".join(f"2023-11-16 18:17:{i % 60:02}.5,{100 + 13 * i},{2 + i % 9}\n" for i in range(600))
    trace.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + rows)
    env = {**os.environ, "LATHE_TRACE_DIR": str(folder)}
    command = [script, "--lathe", lathe, "--out", folder / "out", "--date", "2026-01-02", "--max-steps", "12"]
    done = subprocess.run([str(word) for word in command], env=env, capture_output=True, text=True)
    print(done.stdout, done.stderr, f"({folder})")

    assert done.returncode in (0, 1), done.returncode  # 1: so few steps of so small a trace break a bound
    record = json.loads((folder / "out/plan-replay-2026-01-02.json").read_text())
    assert (done.returncode == 0) == all(bound["ok"] for bound in record["bounds"])
    for name in ("azure_llm_2023_conv.csv", "mooncake_conversation.jsonl"):
        assert f"skipped {name}: not in {folder}" in done.stdout
        assert {"file": name, "skipped": True} in record["traces"]
    assert {"file": trace.name, "sha256": hashlib.sha256(trace.read_bytes()).hexdigest()} in record["traces"]
    assert len(record["runs"]) == 6 + 2, len(record["runs"])
    for run in record["runs"]:
        assert run["command"].startswith("lathe plan ") and str(folder) not in run["command"], run["command"]
        assert {"ours", "shared", "uniform_chunk", "no_split"} <= run.keys()
    assert record["bounds"]

    del env["LATHE_TRACE_DIR"]
    done = subprocess.run([str(word) for word in command], env=env, capture_output=True, text=True)
    assert done.stdout.count("LATHE_TRACE_DIR is not set") == 3, done.stdout
    bad = subprocess.run([script, "--lathe", "/nonexistent"], capture_output=True, text=True)
    assert bad.returncode == 2 and "/nonexistent" in bad.stderr, bad.stderr
    for file in sorted(folder.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    folder.rmdir()


if __name__ == "__main__":
    main()
