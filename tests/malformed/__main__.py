"""``python -m tests.malformed [--every N] [--out FILE.json]``: all cases, or each N-th; 1 where any is wrong."""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
from pathlib import Path

from tests.malformed.stress import stress


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="malformed-") as root:
        counts, wrong = stress(Path(root), options.every, print)
    total = sum(counts.values())
    print(f"{total} malformed inputs, {len(wrong)} answered wrongly")
    if options.out:
        from pyro_disent.training.record import versions

        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.split(":")[1].strip() for line in lines if "model name" in line), platform.processor())
        result = {
            "command": "python -m tests.malformed " + " ".join(sys.argv[1:]),
            "seeds": "the number of each case in its kind",
            "versions": versions(), "cpu": cpu, "cases": counts, "total": total, "answered wrongly": wrong,
        }  # fmt: skip
        options.out.write_text(json.dumps(result, indent=2) + "\n")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
