"""`python -m kinescribe` and the `kinescribe` command."""

import os
import sys

THREADS = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "3000"}
"""Threads that spin while they wait for each other crawl when another program wants a core too, and those that sleep at
once must be woken after every operation. So GNU's runtime looks a few thousand times, some microseconds, before it
sleeps. OpenMP asks once, when torch is imported."""


def main() -> None:
    """Run the command line and leave with its exit code."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.update(THREADS | os.environ)
    from kinescribe.cli.app import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
