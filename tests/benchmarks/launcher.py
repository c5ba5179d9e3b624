"""Runs one command and writes what it took, as JSON; a small process of its own.

The kernel counts as a process's memory also what it was before it became another program: a command started
by the benchmark itself would never seem smaller than the benchmark.
Usage: `launcher.py RESULT STDERR COMMAND...`
"""

from __future__ import annotations

import json
import os
import sys
import time


def main() -> int:
    """Counts children too that their parents wait for; 0 whatever the command said."""
    result, stderr, *command = sys.argv[1:]
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, stderr + ".stdout", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644),
        (os.POSIX_SPAWN_OPEN, 2, stderr, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644),
    ]
    began_s = time.monotonic()
    pid = os.posix_spawnp(command[0], command, os.environ, file_actions=actions)
    _, status, usage = os.wait4(pid, 0)
    took_s = time.monotonic() - began_s
    with open(result, "w") as target:
        json.dump(
            {
                "wall_s": took_s,
                "cpu_s": usage.ru_utime + usage.ru_stime,
                "peak_rss_bytes": usage.ru_maxrss * 1024,
                "exit_code": os.waitstatus_to_exitcode(status),
            },
            target,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
