"""Tells the story of one seed: ``python -m tests.simulation.replay SEED``; ends with an error where a promise broke."""

from __future__ import annotations

import sys

from tests.simulation.schedule import Schedule


def main() -> None:
    schedule = Schedule(int(sys.argv[1])).play()
    print(schedule.told())
    sys.exit(1 if schedule.problems else 0)


if __name__ == "__main__":
    main()
