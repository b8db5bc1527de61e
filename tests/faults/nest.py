"""A nest of workers: it has imported the service, and hatches `seatsvc serve` in no time.

`python -m tests.faults.nest ARGUMENTS` reads lines. `start` forks a worker with these arguments
and writes its process id; `wait ID` writes its exit status once it has ended. When the nest is
told to end, or dies, so do its workers.
"""

import os
import sys
from traceback import print_exc

from seatsvc import cli, local


def main() -> None:
    """Serve until there are no more lines."""
    for line in sys.stdin:
        match line.split():
            case ["start"]:
                print(hatch(), flush=True)
            case ["wait", pid]:
                print(os.waitstatus_to_exitcode(os.waitpid(int(pid), 0)[1]), flush=True)


def hatch() -> int:
    """Fork a worker; its process id."""
    if pid := os.fork():
        return pid
    try:
        local.die_with_parent()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(2, 1)  # both are its log
        cli.main(["serve", *sys.argv[1:]])
    except BaseException:
        print_exc()
    finally:
        os._exit(1)


if __name__ == "__main__":
    main()
