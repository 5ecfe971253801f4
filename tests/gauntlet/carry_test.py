"""bench/carry.sh, in trees with stubs of what it calls."""

import lzma
import os
import shutil
import sys
import tempfile
import unittest
from pathlib import Path

BENCH = Path(__file__).resolve().parent.parent.parent / "bench"
sys.path.insert(0, str(BENCH))

from gauntlet_lib import machine  # noqa: E402


class Carry(unittest.TestCase):
    """bench/carry.sh in a tree of its own, with stubs of what it calls."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        shutil.copytree(BENCH / "gauntlet_lib", self.root / "bench/gauntlet_lib", ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("carry.sh", "gauntlet"):
            shutil.copy(BENCH / name, self.root / "bench" / name)
        self.stub("tools/strip", '[ "$1" = --strip-unneeded ] && shift; cp "$3" "$2"')
        self.stub("tools/objdump", "true")
        self.stub("tools/git", "printf 'bench/carry.sh\\0'")
        for name in ("lathe-compile-worker", "lathe-gpu-tests", "lathe-bench-gpu"):
            self.stub(f"build/bin/{name}", "true")
        # lathe warm --specs LIST --arch ARCH --out BUNDLE
        self.stub("build/bin/lathe", 'mkdir -p "$7"; echo "$LATHE_NVRTC" >"$7/manifest"; [ -s "$3" ] && [ "$1" = warm ]')
        self.wheel = self.library(".venv/lib/python3.11/site-packages/nvidia/cu13/lib/libnvrtc.so.13")

    def stub(self, name: str, body: str):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)

    def library(self, name: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True)
        path.write_text(name)
        (path.parent / "libnvrtc-builtins.so.13.0").write_text("builtins")
        return path

    def carry(self, *options: str, nvrtc: str | None = None):
        """(exit code, output, the NVRTC that the bundle was made with, the one carried)"""
        env = {k: v for k, v in os.environ.items() if k != "LATHE_NVRTC"} | {"PATH": f"{self.root}/tools:{os.environ['PATH']}"}
        command = [self.root / "bench/carry.sh", *options]
        done = machine.run(command, 60, env | ({"LATHE_NVRTC": nvrtc} if nvrtc else {}))
        carried = self.root / "build/carry/lib/libnvrtc.so.13.xz"
        made_with = (self.root / "build/carry/bundle/manifest").read_text().strip()
        return done.rc, done.out, made_with, lzma.open(carried, "rt").read() if carried.exists() else None

    def test_the_bundle_is_made_with_the_nvrtc_that_is_carried(self):
        rc, out, made_with, carried = self.carry()
        self.assertEqual((rc, made_with), (0, str(self.wheel)), out)
        self.assertEqual(carried, self.wheel.read_text())
        for name in ("bin/lathe", "bin/lathe-gpu-tests", "lib/libnvrtc-builtins.so.13.0.xz", "specs.txt", "in all, of 67108864"):
            self.assertIn(name, out)

    def test_the_callers_nvrtc_goes_first(self):
        other = self.library("toolkit/libnvrtc.so.13")
        rc, out, made_with, carried = self.carry(nvrtc=str(other))
        self.assertEqual((rc, made_with), (0, str(other)), out)
        self.assertEqual(carried, other.read_text())

    def package(self):
        root = self.root / "build/carry/python"
        return sorted(str(file.relative_to(root)) for file in root.rglob("*") if file.is_file())

    def test_the_package_travels_with_the_operators(self):
        rc, out, *_ = self.carry()
        self.assertEqual((rc, self.package()), (0, []), out)
        self.assertIn("liblathe_torch.so is not built (PyTorch was missing)", out)
        module, other = "_lathe.cpython-311-x86_64-linux-gnu.so", "_lathe.cpython-312-x86_64-linux-gnu.so"
        for name in ("lib/liblathe.so.0", "lib/liblathe_torch.so", f"python/lathe/{module}"):
            self.stub(f"build/{name}", "")
        self.stub("python/lathe/compat/__init__.py", "")
        self.stub(other, "")
        rc, out, *_ = self.carry("--module", other)
        self.assertEqual(rc, 0, out)
        expected = [module, other, "compat/__init__.py", "lib/liblathe.so.0", "lib/liblathe_torch.so"]
        self.assertEqual(self.package(), [f"lathe/{name}" for name in expected])

    def test_without_nvrtc_the_bundle_still_travels(self):
        self.carry()
        rc, out, made_with, carried = self.carry("--no-nvrtc")
        self.assertEqual((rc, made_with, carried), (0, "", None), out)


if __name__ == "__main__":
    unittest.main()
