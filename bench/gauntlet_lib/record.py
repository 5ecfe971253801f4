"""The results file: rewritten whole after every figure, so that a run that is cut short loses nothing, and read again to go on."""

import json
import os
import re
from pathlib import Path

SCHEMA = 1


def slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


class Record:
    """One file, `<device>-<date>.json`. `seeds` are folders where an earlier run of the same device and day may have left one."""

    def __init__(self, folder: Path, device: str, date: str, seeds: tuple[Path, ...] = ()):
        name = f"{slug(device)}-{date}.json"
        self.path = folder / name
        self.data = {"schema": SCHEMA, "device": device, "date": date, "facts": {}, "tests": {}, "sanitizer": {}, "rows": {}}
        for seed in (folder, *seeds):
            if self._read(seed / name):
                break

    def _read(self, path: Path) -> bool:
        try:
            found = json.loads(path.read_text())
        except (OSError, ValueError):
            return False
        if not isinstance(found, dict) or any(found.get(key) != self.data[key] for key in ("schema", "device", "date")):
            return False
        self.data.update(found)
        return True

    def has(self, section: str, key: str) -> bool:
        """Whether there is a result that another run need not repeat: failures are tried again."""
        return self.data[section].get(key, {}).get("status") in ("ok", "refused", "skipped")

    def put(self, section: str, key: str, value: dict) -> None:
        self.data[section][key] = value
        self.save()

    def save(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".tmp")
        with open(temporary, "w") as out:
            json.dump(self.data, out, indent=2, sort_keys=True)
            out.write("\n")
            out.flush()
            os.fsync(out.fileno())
        os.replace(temporary, self.path)
