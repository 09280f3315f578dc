"""`python -m kinescribe` and the `kinescribe` command."""

import os
import sys


def main() -> None:
    """Run the command line and leave with its exit code."""
    # Threads that spin while they wait for each other crawl when another program wants a core too: a step then takes
    # several times as long. OpenMP asks once, when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from kinescribe.cli.app import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
