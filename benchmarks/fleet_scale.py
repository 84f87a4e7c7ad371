"""The rollout engine over fleets of up to 10,000 simulated targets: seconds, memory, linear or not.

Each size is a process of its own. In it a fleet takes a release in waves, under the default policy and the
virtual clock of the simulation, and then goes back; one target in a hundred fails its first switch. A second
deploy breaches its budget in the last wave and takes the whole fleet back. What is measured is real time and
memory, the simulated hosts' share included: nothing travels, so this is what deciding costs.

Run it with ``make bench-fleet-scale``. The last line is JSON; ``growth`` is the cost of one target in the
largest fleet over that in the smallest: 1 is linear.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import replace

from hybrid_provider.rollout.engine import Rollout
from hybrid_provider.rollout.policy import OnBreach, RolloutPolicy
from hybrid_provider.rollout.rollback import Rollback
from hybrid_provider.rollout.states import RolloutState
from tests.simulation.hosts import Fault, SimulatedProbe, SimulatedTarget
from tests.simulation.virtual_time import run_in_virtual_time
from tests.simulation.world import NEW, OLD, RELEASES, simulated_hosts

SIZES = (1000, 2500, 5000, 10000)
ONE_FAILS_IN = 100


def fleet_of(size: int):
    """Hosts in racks of forty, of which some fail their switch."""
    hosts = simulated_hosts(size, committed=OLD)
    for number, host in enumerate(hosts):
        host.group = f"rack-{number // 40}"
        if number % ONE_FAILS_IN == ONE_FAILS_IN - 1:
            host.faults = {"activate": (Fault.FAILS, 1)}
    return hosts


def timed(make, expected: RolloutState) -> tuple[float, int]:
    """Seconds that an operation took, and how many entries its journal has; it must end as expected."""
    entries = 0

    def journal(_entry) -> None:
        nonlocal entries
        entries += 1

    async def moved():
        return await make(journal).run()

    began = time.perf_counter()
    result = run_in_virtual_time(moved())
    seconds = time.perf_counter() - began
    if result.state is not expected:
        sys.exit(f"ended as {result.state}: {result.reasons()[:2000]}")
    return seconds, entries


def measure(size: int) -> dict[str, float]:
    """Deploy to a fleet and take it back, by a rollback and by a breach."""
    hosts = fleet_of(size)
    policy = RolloutPolicy(max_failures=size // ONE_FAILS_IN)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def deploy(journal, policy=policy):
        targets = [SimulatedTarget(host) for host in hosts]
        return Rollout(RELEASES[NEW], targets, SimulatedProbe(), policy, rollout_id="deploy", journal=journal)

    def go_back(journal):
        targets = [SimulatedTarget(host) for host in hosts]
        return Rollback(
            "digits", targets, SimulatedProbe(), policy, rollout_id="back", journal=journal, only_from=NEW
        )

    def breach(journal):
        for host in hosts[-size // 10 :]:
            host.sick = {NEW: 0}
        return deploy(journal, replace(policy, on_breach=OnBreach.ROLLBACK))

    deploy_s, entries = timed(deploy, RolloutState.SUCCEEDED)
    rollback_s, more = timed(go_back, RolloutState.ROLLED_BACK)
    breach_s, most = timed(breach, RolloutState.ROLLED_BACK)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "targets": size,
        "deploy_s": deploy_s,
        "rollback_s": rollback_s,
        "breach_s": breach_s,
        "mb": (after - before) / 1024,
        "transitions": entries + more + most,
    }


def measured_apart(size: int, rounds: int) -> dict[str, float]:
    """The medians of some rounds, each in a new process."""
    command = [sys.executable, "-m", "benchmarks.fleet_scale", "--one", str(size)]
    runs = [
        json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        for _ in range(rounds)
    ]
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="fleets (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=1, help="the median of so many (default: 1)")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.one)))
        return
    rows = [measured_apart(size, arguments.rounds) for size in sorted(arguments.sizes)]
    print(
        f"{'targets':>8} {'deploy s':>9} {'back s':>8} {'breach s':>9} {'MB':>7} {'us/target':>10} "
        f"{'KB/target':>10} {'steps':>8}"
    )
    for row in rows:
        print(
            f"{row['targets']:>8} {row['deploy_s']:>9.2f} {row['rollback_s']:>8.2f} {row['breach_s']:>9.2f} "
            f"{row['mb']:>7.1f} {_each(row, 'seconds'):>10.0f} {_each(row, 'bytes'):>10.1f} "
            f"{row['transitions']:>8}"
        )
    largest, smallest = rows[-1], rows[0]
    print(
        json.dumps(
            {
                "targets": largest["targets"],
                "deploy_s": round(largest["deploy_s"], 2),
                "rollback_s": round(largest["rollback_s"], 2),
                "breach_s": round(largest["breach_s"], 2),
                "mb": round(largest["mb"], 1),
                "us_per_target": round(_each(largest, "seconds")),
                "kb_per_target": round(_each(largest, "bytes"), 1),
                "growth_seconds": round(_each(largest, "seconds") / _each(smallest, "seconds"), 2),
                "growth_mb": round(_each(largest, "bytes") / _each(smallest, "bytes"), 2),
            }
        )
    )


def _each(row: dict[str, float], what: str) -> float:
    """Microseconds or kilobytes of one target."""
    if what == "seconds":
        return (row["deploy_s"] + row["rollback_s"] + row["breach_s"]) / row["targets"] * 1e6
    return row["mb"] * 1024 / row["targets"]


if __name__ == "__main__":
    main()
