"""Python in a process of its own."""

import os
import subprocess
import sys

SANITIZED = "libasan" in os.environ.get("LD_PRELOAD", "")


def python(*arguments, without=(), timeout=60, cwd=None, **environment):
    """How `python ARGUMENTS` ends and what it prints, in our environment changed like this."""
    kept = {name: value for name, value in os.environ.items() if name not in without}
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env=kept | environment,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def output_of(code, **options):
    """What some code prints; it must end well."""
    done = python("-c", code, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout
