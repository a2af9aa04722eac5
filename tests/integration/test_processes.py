"""The end of a stack's processes."""

import subprocess
import sys
from pathlib import Path

from loading_bay.local import processes

# Starts a process of the stack, says so, and reaps it a minute later.
PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "input()"], env={sys.argv[1]: sys.argv[2]}, stdin=subprocess.PIPE)
print("started", flush=True)
time.sleep(60)
child.wait()
"""


def test_the_end_does_not_wait_for_a_process_that_has_ended_and_that_its_parent_has_not_reaped(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PARENT, processes.MARK, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"started\n"
        try:
            assert processes.end(tmp_path, seconds=120)

            assert parent.poll() is None
        finally:
            parent.kill()
