"""All figures of the tuner, one after the other, within a given time; on a quiet machine, please.

python benchmarks/tuner_all.py --save --minutes 25
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

#: Script, options, and its share of the time that is left when its turn comes, None where it takes what it takes (a minute or two).
PARTS = [
    ("dispatch", [], None),
    ("resnet50", [], None),
    ("planted", [], None),
    ("store", [], None),
    ("ski_rental", [], 0.25),
    ("flips", [], 0.17),
    ("flips", ["--load"], 0.2),
    ("regret", [], 1.0),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=25, help="for all (%(default)s)")
    parser.add_argument("--only", help="of these parts, separated by commas: " + ", ".join(dict.fromkeys(name for name, *_ in PARTS)))
    parser.add_argument("--save", action="store_true", help="keep them in results/CPU/tuner")
    options, others = parser.parse_known_args()
    end = time.monotonic() + 60 * options.minutes
    failed = 0
    for name, arguments, share in PARTS:
        if options.only and name not in options.only.split(","):
            continue
        command = [sys.executable, str(Path(__file__).with_name(f"tuner_{name}.py")), *arguments, *others]
        command += ["--save"] if options.save else []
        command += [] if share is None else ["--budget", f"{max(1.0, share * (end - time.monotonic())):.0f}"]
        begin = time.monotonic()
        print(f"\n=== {' '.join([name, *command[2:]])}", flush=True)
        failed += bool(subprocess.run(command, check=False).returncode)
        print(f"  {time.monotonic() - begin:.0f} s", flush=True)
    sys.exit(min(failed, 1))


if __name__ == "__main__":
    main()
