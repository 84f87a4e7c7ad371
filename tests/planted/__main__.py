"""Plants bugs, one at a time, and says which tests catch each: ``python -m tests.planted [AREA] [WORD...]``.

Each bug is one exact replacement in a copy of the package; the copy alone is changed, and tested in the place of
the original. A bug that nothing catches, or that can no longer be planted, ends it with an error.
"""

from __future__ import annotations

import os
import sys

from tests.planted import artifacts, docker, rollout

AREAS = {"artifacts": artifacts.BUGS, "docker": docker.BUGS, "rollout": rollout.BUGS}
# Enough of them for each bug of the engine, and not for all steps of both machines; see test_rollout_schedules.
SCHEDULES = "500"


def main() -> None:
    os.environ.setdefault("HYBRID_SCHEDULES", SCHEDULES)
    words = [word for word in sys.argv[1:] if word not in AREAS]
    areas = [word for word in sys.argv[1:] if word in AREAS] or list(AREAS)
    chosen = [bug for area in areas for bug in AREAS[area]]
    if words:
        chosen = [bug for bug in chosen if any(word in bug.what for word in words)]
    missed = 0
    for bug in chosen:
        tests = bug.caught_by()
        missed += not tests
        print(f"{'caught' if tests else 'MISSED':<7} {bug.what}: {'; '.join(tests)}", flush=True)
    print(f"{len(chosen) - missed} of {len(chosen)} bugs were caught")
    sys.exit(1 if missed or not chosen else 0)


if __name__ == "__main__":
    main()
