"""bench/gauntlet without a GPU: stub programs answer in place of the real ones."""

import contextlib
import io
import json
import os
import sys
import tempfile
import unittest
import unittest.mock
from pathlib import Path

BENCH = Path(__file__).resolve().parent.parent.parent / "bench"
sys.path.insert(0, str(BENCH))

from gauntlet_lib import cli, machine, parts, record, rows  # noqa: E402

DEVICE = "NVIDIA H100 80GB HBM3"
FIGURES = {"us": {"median": 1000.0, "p10": 990.0, "p90": 1010.0, "n": 30}, "check": {"ok": True}}


class Rows(unittest.TestCase):
    def test_floors(self):
        """Work and least bytes of each row, by hand: (GFLOP, MB, us on 798 TFLOP/s and 3.0 TB/s)."""
        expected = {
            "1": (549.8, 168, 689),
            "6": (4.3, 1075, 358),
            "7": (0.54, 134, 44.7),
            "8": (2.95, 739, 246),
            "Z": (4.3, 1075, 358),
            "9": (33.8, 572, 191),
        }
        for row in rows.ROWS:
            flop, size, floor = expected[row.id]
            self.assertAlmostEqual(row.flop() / 1e9 / flop, 1, delta=0.01, msg=row.id)
            self.assertAlmostEqual(row.bytes() / 1e6 / size, 1, delta=0.01, msg=row.id)
            self.assertAlmostEqual(row.floor_us(798e12, 3e12) / floor, 1, delta=0.01, msg=row.id)

    def test_pairs_of_a_chunk(self):
        row = rows.Row("", "", 1, 1, 16, (3,), (5,), "")
        self.assertEqual(row.pairs(), 3 + 4 + 5)

    def test_spec_and_batch_are_json(self):
        for row in rows.ROWS:
            for layout in row.layouts:
                self.assertEqual(json.loads(json.dumps(row.spec(layout)))["group_size"], row.group)
            self.assertEqual(len(row.batch()["qo_lens"]), len(row.batch()["kv_lens"]))


class Records(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def open(self, **changes):
        return record.Record(**({"folder": self.folder, "device": DEVICE, "date": "2026-01-02"} | changes))

    def test_is_written_at_once_and_read_again(self):
        first = self.open()
        first.put("rows", "1/ragged/lathe", {"status": "ok", **FIGURES})
        self.assertEqual(first.path.name, "nvidia-h100-80gb-hbm3-2026-01-02.json")
        self.assertTrue(self.open().has("rows", "1/ragged/lathe"))
        self.assertEqual([p.name for p in self.folder.iterdir()], [first.path.name])

    def test_another_day_or_device_starts_anew(self):
        self.open().put("rows", "1/ragged/lathe", {"status": "ok"})
        self.assertFalse(self.open(date="2026-01-03").has("rows", "1/ragged/lathe"))
        self.assertFalse(self.open(device="another").has("rows", "1/ragged/lathe"))

    def test_goes_on_from_another_folder(self):
        self.open().put("rows", "1/ragged/lathe", {"status": "ok"})
        other = self.open(folder=self.folder / "out", seeds=(self.folder,))
        self.assertTrue(other.has("rows", "1/ragged/lathe"))
        other.put("rows", "6/page16/lathe", {"status": "ok"})
        self.assertTrue((self.folder / "out" / other.path.name).exists())

    def test_failures_are_tried_again(self):
        r = self.open()
        for status, final in (("ok", True), ("refused", True), ("skipped", True), ("failed", False)):
            r.put("rows", status, {"status": status})
            self.assertEqual(r.has("rows", status), final)

    def test_a_damaged_file_is_as_good_as_none(self):
        path = self.open().path
        for text in ("", "{", "[]", '{"schema": 0}', "\x00\x01"):
            path.write_text(text)
            self.assertEqual(self.open().data["rows"], {})


class Gauntlet(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.bin, self.out, self.calls = self.folder / "bin", self.folder / "out", self.folder / "calls"
        self.bin.mkdir()

    def stub(self, name: str, body: str):
        path = self.bin / name
        path.write_text(f'#!/bin/sh\necho "$@" >>{self.calls}\n{body}\n')
        path.chmod(0o755)

    def run_part(self, part: str, *more: str, device: str | None = DEVICE):
        arguments = ["--part", part, "--bin", str(self.bin), "--out", str(self.out), "--jobs", "2", *more]
        if device:
            arguments += ["--device-name", device]
        self.calls.write_text("")
        text = io.StringIO()
        with contextlib.redirect_stdout(text):
            code = cli.main(arguments)
        return code, text.getvalue(), self.calls.read_text().splitlines()

    def results(self):
        return json.loads(next(self.out.iterdir()).read_text())

    def stub_bench(self, body: str = ""):
        self.stub("lathe-bench-gpu", body or f"echo a warning\ncat <<'END'\n{json.dumps(FIGURES, indent=2)}\nEND")

    def test_bench_records_and_goes_on(self):
        self.stub_bench()
        code, text, calls = self.run_part("bench")
        self.assertEqual(code, cli.OK, text)
        self.assertEqual(len(calls), sum(len(row.layouts) for row in rows.ROWS))
        self.assertEqual(self.results()["rows"]["6/page16/lathe"]["us"]["median"], 1000.0)
        self.assertRegex(text, r"page16/lathe +1000\.0 +990\.0\.\.1010\.0 +358\.3 +35\.8% +4\.3 +1075")
        code, text, calls = self.run_part("bench")
        self.assertEqual((code, calls), (cli.OK, []))
        self.assertIn("recorded already", text)

    def test_a_wrong_result_fails_and_is_tried_again(self):
        self.stub_bench(f"echo '{json.dumps(FIGURES | {'check': {'ok': False}})}'; exit 1")
        code, text, _ = self.run_part("bench")
        self.assertEqual(code, cli.FAILED)
        self.assertIn("exit code 1", text)
        self.stub_bench()
        code, _, calls = self.run_part("bench")
        self.assertEqual(code, cli.OK)
        self.assertNotEqual(calls, [])

    def test_no_time_left(self):
        self.stub_bench()
        code, text, calls = self.run_part("bench", "--budget-s", "0")
        self.assertEqual((code, calls), (cli.TIME_RAN_OUT, []))
        self.assertIn("no time was left", text)

    def test_without_a_gpu_nothing_passes(self):
        os.environ["PATH"], path = str(self.bin), os.environ["PATH"]
        self.addCleanup(os.environ.__setitem__, "PATH", path)
        for part in parts.PARTS:
            code, text, _ = self.run_part(part, device=None)
            self.assertEqual(code, parts.SKIP_CODE)
            self.assertIn("SKIPPED", text)

    def test_programs_that_find_no_gpu(self):
        self.stub_bench("echo no CUDA device; exit 77")
        code, text, _ = self.run_part("bench")
        self.assertEqual(code, parts.SKIP_CODE)
        self.assertIn("SKIPPED: no CUDA device", text)

    def test_programs_that_are_not_there(self):
        code, text, _ = self.run_part("tests")
        self.assertEqual(code, parts.SKIP_CODE)
        self.assertIn("bench/carry.sh", text)

    def stub_tests(self, body: str):
        listing = (
            "Running main()\\nGpuKernels.\\n  Oracle/0  # GetParam() = 0\\n  Oracle/1\\n"
            "GpuGraph.\\n  Replays\\nGpuSanitizer.\\n  Few/0\\n"
        )
        self.stub("lathe-gpu-tests", f"if [ $1 = --gtest_list_tests ]; then printf '{listing}'; exit 0; fi\n{body}")

    def test_tests_one_by_one(self):
        self.stub_tests('case $1 in *Oracle/1) echo "row is wrong"; exit 1;; esac')
        code, text, _ = self.run_part("tests")
        self.assertEqual(code, cli.FAILED)
        found = self.results()["tests"]
        self.assertEqual(
            {k: v["status"] for k, v in found.items() if not k.startswith("python/")},
            {"GpuKernels.Oracle/0": "ok", "GpuKernels.Oracle/1": "failed", "GpuGraph.Replays": "ok"},
        )
        self.assertIn("row is wrong", found["GpuKernels.Oracle/1"]["output"])
        self.assertIn("2 ok, 1 failed", text)

    def test_a_sanitizer_that_is_not_installed_is_no_pass(self):
        self.stub_tests("")
        code, text, _ = self.run_part("sanitizer")
        with machine.Machine(self.bin) as here:
            if here.sanitizer() is not None:
                self.skipTest("compute-sanitizer is installed")
        self.assertEqual(code, parts.SKIP_CODE)
        self.assertIn("3 skipped", text)

    def test_dry_run_runs_nothing(self):
        self.stub_bench()
        code, text, calls = self.run_part("bench", "--dry-run", device=None)
        self.assertEqual((code, calls), (cli.OK, []))
        self.assertIn("9/page1/lathe", text)
        self.assertFalse(self.out.exists())

    def test_all_that_is_timed_is_listed_for_the_bundle(self):
        text = io.StringIO()
        with contextlib.redirect_stdout(text):
            self.assertEqual(cli.main(["--list-specs"]), cli.OK)
        listed = [json.loads(line) for line in text.getvalue().splitlines()]
        self.assertEqual(len(listed), len({json.dumps(spec) for spec in listed}))
        for row in rows.ROWS:
            for layout in row.layouts:
                self.assertIn(row.spec(layout), listed)

    def lathe_row(self, **environment):
        """The first row's result; `environment` is that of the caller."""
        with unittest.mock.patch.dict(os.environ, environment), machine.Machine(self.bin) as here:
            return parts.lathe_unit(here, rows.ROWS[0], "ragged").work(30)

    def run_rows(self, *more: str):
        """The bench part without the peers, whose start takes seconds where PyTorch is."""
        units = lambda here: [parts.lathe_unit(here, row, layout) for row in rows.ROWS for layout in row.layouts]  # noqa: E731
        with unittest.mock.patch.dict(parts.PARTS, bench=units):
            return self.run_part("bench", *more)[:2]

    def bundle_open_to_its_group(self):
        entries = self.folder / "bundle/v1/ab"
        entries.mkdir(parents=True)
        for file in (self.folder / "bundle/manifest", entries / "one.lathe"):
            file.write_text("from a machine with umask 002")
            file.chmod(0o664)
        for folder in (self.folder / "bundle", entries.parent, entries):
            folder.chmod(0o775)

    def test_with_a_bundle_nothing_timed_is_compiled(self):
        self.stub_bench(f"echo \"$LATHE_JIT,$LATHE_BUNDLE\" >{self.folder}/seen\necho '{json.dumps(FIGURES)}'")

        def seen(**environment):
            self.assertEqual(self.lathe_row(**environment)["status"], "ok")
            jit, bundle = (self.folder / "seen").read_text().strip().split(",")
            return jit, bundle

        self.assertEqual(seen(), ("", ""))
        self.assertEqual(seen(LATHE_BUNDLE="/of/the/caller"), ("off", "/of/the/caller"))
        self.bundle_open_to_its_group()
        jit, bundle = seen()
        self.assertEqual((jit, Path(bundle).name), ("off", "bundle"))
        self.assertEqual(seen(LATHE_JIT="on")[0], "on", "the caller's word stands")
        self.assertEqual(seen(LATHE_BUNDLE=""), ("", ""))
        # Tests draw their specs, so they compile.
        self.stub_tests(f'echo "$LATHE_JIT" >{self.folder}/seen')
        self.assertEqual(self.run_part("tests")[0], cli.OK)
        self.assertEqual((self.folder / "seen").read_text().strip(), "")

    def test_a_carried_bundle_is_its_owners_alone(self):
        self.bundle_open_to_its_group()
        self.stub_bench(
            f'find "$LATHE_BUNDLE" -printf "%y %m %U %P\\n" | sort >{self.folder}/seen\n'
            f"cat \"$LATHE_BUNDLE/v1/ab/one.lathe\" >>{self.folder}/seen\necho '{json.dumps(FIGURES)}'"
        )
        before = os.umask(0o002)
        self.addCleanup(os.umask, before)
        self.assertEqual(self.lathe_row()["status"], "ok")
        us = os.geteuid()
        self.assertEqual(
            (self.folder / "seen").read_text().splitlines(),
            [f"d 700 {us} ", f"d 700 {us} v1", f"d 700 {us} v1/ab", f"f 600 {us} manifest", f"f 600 {us} v1/ab/one.lathe"]
            + ["from a machine with umask 002"],
        )
        self.assertEqual((self.folder / "bundle/manifest").stat().st_mode & 0o777, 0o664, "what was carried is not touched")

    def test_a_kernel_that_is_not_in_the_bundle_fails_its_row(self):
        self.bundle_open_to_its_group()
        error = json.dumps({"error": "unavailable: attention sm_90a: this kernel is not in the cache"})
        self.stub_bench(f"if [ \"$LATHE_JIT\" = off ]; then echo '{error}'; exit 1; fi\necho '{json.dumps(FIGURES)}'")
        code, text = self.run_rows()
        self.assertEqual(code, cli.FAILED)
        self.assertRegex(text, r"page16/lathe +- +failed: exit code 1: unavailable: attention sm_90a: this kernel is not in")

    def test_the_table_says_where_a_kernel_was_compiled(self):
        for here in (True, False):
            self.stub_bench(f"echo '{json.dumps(FIGURES | {'kernel': {'compiled_here': here}})}'")
            code, text = self.run_rows("--date", f"2026-01-0{1 + here}")
            self.assertEqual(code, cli.OK, text)
            self.assertEqual(text.count("compiled here"), sum(len(row.layouts) for row in rows.ROWS) if here else 0)

    def stub_package(self):
        """A package whose operators are a file, and whose modules import nothing."""
        library = self.folder / "python/lathe/lib/liblathe_torch.so"
        library.parent.mkdir(parents=True)
        library.write_text("")
        (self.folder / "python/lathe/__init__.py").write_text("")
        return library

    def python(self, body: str):
        """Stands in for the Python of this process, which is the one that runs PyTorch."""
        self.stub("python", body)
        return unittest.mock.patch.object(sys, "executable", str(self.bin / "python"))

    def operator_rows(self):
        units = lambda here: [parts.operator_unit(here, row, layout) for row in rows.ROWS for layout in row.layouts]  # noqa: E731
        with unittest.mock.patch.dict(parts.PARTS, bench=units):
            return self.run_part("bench")

    def test_rows_through_the_operators(self):
        figures = FIGURES | {"status": "ok", "graph_us": {"median": 900.0}, "host_us": {"mean": 12.5}}
        library = self.stub_package()
        with self.python(f"echo '{json.dumps(figures)}'"):
            code, text, calls = self.operator_rows()
        self.assertEqual(code, cli.OK, text)
        self.assertEqual(len(calls), sum(len(row.layouts) for row in rows.ROWS))
        self.assertEqual(calls[0], f"-m gauntlet_lib.torch_op {library} 1 ragged")
        self.assertRegex(text, r"page16/torch +1000\.0 .* replayed 900\.0 us, on the host 12\.5 us a call")

    def test_rows_without_the_operators_are_no_pass(self):
        with self.python("exit 1"):
            code, text, calls = self.operator_rows()
        self.assertEqual((code, calls), (parts.SKIP_CODE, []))
        self.assertIn("the operators for PyTorch are not here", text)

    def test_a_wrong_result_through_the_operators_fails(self):
        self.stub_package()
        with self.python(f"echo '{json.dumps({'status': 'failed', 'reason': 'the result is wrong'})}'"):
            self.assertEqual(self.operator_rows()[0], cli.FAILED)

    def python_suites(self, body: str):
        """Verdicts of the suites; `body` answers pytest."""
        self.stub_package()
        loads = 'case "$*" in *"import pytest, lathe.torch"*) ' + self.loads + ";; esac"
        with self.python(f"{loads}\n{body}"), unittest.mock.patch.object(parts, "list_tests", lambda here: []):
            code, text, calls = self.run_part("tests")
        return code, text, calls, {key: value["status"] for key, value in self.results()["tests"].items()}

    loads = "exit 0"

    def test_python_suites_run_on_the_gpu(self):
        seen = self.folder / "seen"
        body = f'echo "$LATHE_TEST_DEVICE $PYTHONPATH $LD_LIBRARY_PATH" >>{seen}\n'
        body += 'case "$*" in *test_torch.py*) echo boom; exit 1;; esac'
        code, text, calls, found = self.python_suites(body)
        self.assertEqual(code, cli.FAILED, text)
        self.assertEqual(found["python/test_torch.py"], "failed")
        self.assertEqual(found["python/test_torch_cuda_graph.py"], "ok")
        self.assertTrue(seen.read_text().startswith(f"cuda {self.folder}/python {self.folder}/python/lathe/lib:"))

    def test_python_suites_that_skip_everything_are_no_pass(self):
        """Pytest's exit code is then 5 where files as a whole are skipped, and else 0."""
        body = "echo; echo '7 skipped in 0.02s'; case \"$*\" in *_cuda_graph*) exit 5;; esac"
        code, text, _, found = self.python_suites(body)
        self.assertEqual((code, set(found.values())), (parts.SKIP_CODE, {"skipped"}), text)

    def test_python_suites_say_why_they_cannot_be_loaded(self):
        self.loads = "echo 'ImportError: no module _lathe for this Python'; exit 1"
        code, text, calls, found = self.python_suites("exit 1")
        self.assertEqual((code, set(found.values())), (parts.SKIP_CODE, {"skipped"}), text)
        self.assertIn("ImportError: no module _lathe for this Python", text)
        self.assertFalse([call for call in calls if "pytest -q" in call])

    def test_a_program_past_its_limit_is_killed(self):
        self.stub("slow", "sleep 60 & sleep 60")
        done = machine.run([self.bin / "slow"], 1)
        self.assertEqual(done.rc, machine.TIMED_OUT)
        self.assertLess(done.seconds, 20)
        self.assertEqual(parts.verdict(done)["reason"], "ran past its time limit")

    def test_last_json(self):
        self.assertEqual(parts.last_json('{"a": 1}\nwarning {\n{"b": {"c": 2}}\n'), {"b": {"c": 2}})
        self.assertEqual(parts.last_json("nothing"), {})


@unittest.skipUnless("LATHE_BENCH_GPU" in os.environ, "LATHE_BENCH_GPU and FAKE_DRIVER name no programs; ctest sets them")
class Programs(unittest.TestCase):
    """The real lathe-bench-gpu, on the fake driver of tests/runtime."""

    def lathe_row(self, driver: str):
        with tempfile.TemporaryDirectory() as folder:
            here = Path(folder)
            for name in ("bin", "bundle"):
                (here / name).mkdir()
            (here / "bin/lathe-bench-gpu").symlink_to(os.environ["LATHE_BENCH_GPU"])
            with unittest.mock.patch.dict(os.environ, LATHE_CUDA_DRIVER=driver), machine.Machine(here / "bin") as there:
                return parts.lathe_unit(there, rows.ROWS[0], "ragged").work(60)

    def test_a_bundle_that_is_refused_is_a_failure(self):
        result = self.lathe_row(os.environ["FAKE_DRIVER"])
        self.assertEqual((result["status"], result["reason"]), ("failed", "exit code 1"))
        for part in ("attention sm_90a [", "a bundle is not used", "/bundle/manifest", "LATHE_JIT=off"):
            self.assertIn(part, result["error"])

    def test_no_device_is_none(self):
        with self.assertRaisesRegex(parts.NoDevice, "no CUDA driver"):
            self.lathe_row("/nonexistent")


if __name__ == "__main__":
    unittest.main()
