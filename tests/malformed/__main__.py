"""``make stress``: all malformed cases, thirty of them through the installed program too; what is wrong is printed."""

from __future__ import annotations

import argparse
import collections
import json
import platform
import random
import re
import sys
import time
from pathlib import Path

from tests.malformed import cases, wrong
from tests.malformed.harness import answered, through_the_program, workplace

THROUGH_THE_PROGRAM = 30


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="a pattern of names")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of cases that go through the program")
    parser.add_argument("--log", type=Path, help="where the result is written as JSON")
    parser.add_argument("--show", action="store_true", help="print every answer")
    said = parser.parse_args()
    chosen = [case for name, case in cases().items() if re.search(said.only, name)]
    start, bad = time.monotonic(), {}
    slowest = most = 0.0
    counts: collections.Counter[str] = collections.Counter()
    with workplace() as (root, base):
        for case, outcome in answered(chosen, root, base):
            slowest, most = max(slowest, outcome.seconds), max(most, outcome.memory / 2**20)
            why = wrong(case, outcome)
            counts["wrong" if why else "refused" if outcome.code else "harmless"] += 1
            if said.show:
                print(f"{case.name}\n    {outcome.code} {outcome.error.strip()[-500:]}")
            if why:
                bad[case.name] = why
                print(f"WRONG {case.name}: {why[:300]}\n    {outcome.error.strip()[-300:]}", flush=True)
        through = random.Random(said.seed).sample(chosen, min(THROUGH_THE_PROGRAM, len(chosen)))
        for case in through if not said.only else ():
            outcome = through_the_program(case, root, base)
            if why := wrong(case, outcome):
                bad[f"{case.name} (program)"] = why
                print(f"WRONG {case.name} through the program: {why}\n    {outcome.error.strip()[-300:]}", flush=True)
    print(f"{len(chosen)} malformed inputs, {len(bad)} answered wrongly: {dict(counts)}")
    if said.log:
        log = {
            "command": f"python -m tests.malformed --seed {said.seed} --log FILE",
            "seed": said.seed,
            "inputs": len(chosen),
            "through_the_program": len(through),
            "outcomes": dict(counts),
            "wrong": bad,
            "slowest_seconds": round(slowest, 1),
            "most_memory_mib": round(most),
            "seconds": round(time.monotonic() - start),
            "machine": machine(),
        }
        said.log.write_text(json.dumps(log, indent=2) + "\n")
    return 1 if bad else 0


def machine() -> dict[str, str]:
    from pyro_disent.training.record import versions

    return {**versions(), "system": platform.platform()}


if __name__ == "__main__":
    sys.exit(main())
