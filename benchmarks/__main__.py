"""`make bench`: prints what it measures, then the figures; `--json` one line at the end, `--quick` a short run."""

from __future__ import annotations

import json
import sys

from benchmarks.run import QUICK, Size, run


def main() -> int:
    """0, or 1 where a contender's facts are not ours (the error says which)."""
    unknown = set(sys.argv[1:]) - {"--json", "--quick"}
    if unknown:
        print(f"bench: must be --json and --quick only, got {' '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    size = QUICK if "--quick" in sys.argv else Size()
    figures = run(size, lambda text: print(text, file=sys.stderr, flush=True))
    if "--json" in sys.argv:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:32} {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
