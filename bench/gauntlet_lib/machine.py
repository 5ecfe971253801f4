"""Where things are on the machine at hand, and how programs are run on it within a budget of time."""

import lzma
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
TIMED_OUT = -1


class Budget:
    """Wall-clock seconds for everything."""

    def __init__(self, seconds: float, clock=time.monotonic):
        self._clock = clock
        self._end = clock() + seconds

    def left(self) -> float:
        return self._end - self._clock()

    def allows(self, seconds: float) -> bool:
        return self.left() >= seconds


@dataclass
class Outcome:
    rc: int  # TIMED_OUT when it ran past its limit
    out: str
    seconds: float


def run(command: list, limit_s: float, env: dict | None = None) -> Outcome:
    """Runs `command`; on reaching the limit it is killed with its children. Standard error is part of the output."""
    start = time.monotonic()
    process = subprocess.Popen(
        [str(part) for part in command],
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        out, _ = process.communicate(timeout=max(limit_s, 1))
        rc = process.returncode
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        out, _ = process.communicate()
        rc = TIMED_OUT
    return Outcome(rc, out, time.monotonic() - start)


class Machine:
    """The programs and libraries that a run uses, and its scratch folder. `bin_dir`: where to look instead of the build."""

    def __init__(self, bin_dir: Path | None = None):
        self._places = [bin_dir] if bin_dir else [ROOT / "build/carry/bin", ROOT / "build/bin", ROOT / "build/release/bin"]
        self._scratch = tempfile.TemporaryDirectory(prefix="lathe-gauntlet-")
        self.env = dict(os.environ)
        self.env["LATHE_CACHE_DIR"] = str(Path(self._scratch.name) / "cache")
        Path(self.env["LATHE_CACHE_DIR"]).mkdir(mode=0o700)
        worker = self.program("lathe-compile-worker")
        if worker and "LATHE_WORKER" not in self.env:
            self.env["LATHE_WORKER"] = str(worker)
        bundle = next((place.parent / "bundle" for place in self._places if (place.parent / "bundle").is_dir()), None)
        if bundle and "LATHE_BUNDLE" not in self.env:
            self.env["LATHE_BUNDLE"] = str(self._own_copy(bundle))
        nvrtc = self._nvrtc()
        if nvrtc and "LATHE_NVRTC" not in self.env:
            self.env["LATHE_NVRTC"] = str(nvrtc)

    def __enter__(self) -> "Machine":
        return self

    def __exit__(self, *_) -> None:
        self._scratch.cleanup()

    def program(self, name: str) -> Path | None:
        return next((place / name for place in self._places if os.access(place / name, os.X_OK)), None)

    def package(self) -> Path | None:
        """The folder of Lathe's Python package, with the operators for PyTorch, carried or built."""
        places = (place.parent / "python" for place in self._places)
        return next((place for place in places if (place / "lathe/lib/liblathe_torch.so").is_file()), None)

    def env_for_timing(self) -> dict:
        """With a bundle nothing may be compiled: a row whose kernel does not come from there fails, and says why."""
        return ({"LATHE_JIT": "off"} if self.env.get("LATHE_BUNDLE") else {}) | self.env

    def _own_copy(self, bundle: Path) -> Path:
        """What was carried here may have another owner, or be open to its group by the umask; Lathe believes neither."""
        copy = Path(self._scratch.name) / "bundle"
        shutil.copytree(bundle, copy, symlinks=True)
        for folder, _, files in os.walk(copy):
            os.chmod(folder, 0o700)
            for file in files:
                os.chmod(os.path.join(folder, file), 0o600)
        return copy

    def _nvrtc(self) -> Path | None:
        """The carried NVRTC, unpacked; else PyTorch's; else the toolkit's is found by Lathe itself."""
        for place in self._places:
            packed = sorted((place.parent / "lib").glob("libnvrtc*.xz"))
            for file in packed:
                target = Path(self._scratch.name) / file.stem
                with lzma.open(file) as source, open(target, "wb") as out:
                    shutil.copyfileobj(source, out)
            if packed:
                return next(Path(self._scratch.name).glob("libnvrtc.so*"), None)
        for folder in map(Path, sys.path):
            for library in sorted(folder.glob("nvidia/cu1*/lib/libnvrtc.so.*")) + sorted(
                folder.glob("nvidia/cuda_nvrtc/lib/libnvrtc.so.*")
            ):
                if ".alt." not in library.name:
                    return library
        return None

    def sanitizer(self) -> str | None:
        return shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path="/usr/local/cuda/bin")

    def device_name(self) -> str | None:
        """Of the first GPU, by nvidia-smi."""
        smi = shutil.which("nvidia-smi")
        if smi is None:
            return None
        done = run([smi, "--query-gpu=name,driver_version", "--format=csv,noheader"], 60)
        lines = done.out.strip().splitlines()
        return lines[0].split(",")[0].strip() if done.rc == 0 and lines else None
