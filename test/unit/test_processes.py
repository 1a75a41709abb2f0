"""What a process asks of its C library, which is glibc wherever ROS 2 runs from wheels or packages of Linux."""

import subprocess
import sys

FAULTS = """
import resource, sys, threading
import numpy as np
from deepverse_ros.processes import keep_freed_memory

if sys.argv[1] == "keep":
    keep_freed_memory()

def pictures():
    return [np.ones(size << 20, np.uint8) for size in (3, 20, 9, 14, 20, 6, 25)]  # MiB

def work():
    pictures()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        pictures()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

thread = threading.Thread(target=work)
thread.start()
thread.join()
"""


def test_freed_memory_is_used_again_without_asking_the_system_for_it() -> None:
    faults = {
        how: int(subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True).stdout)
        for how in ("keep", "leave")
    }
    assert faults["keep"] < 1000  # a megabyte is 256 pages
    assert faults["leave"] > 10 * faults["keep"]
