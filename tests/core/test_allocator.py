"""Freed memory is kept: in a process of its own, as the setting is the whole process's."""

import subprocess
import sys

CODE = """
import resource, torch
from fedemb.core.allocator import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(2**20), torch.ones(2**21)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

kept = keep_freed_memory()
faults()
print(int(kept), faults())
"""


def test_memory_is_reused_without_page_faults():
    """20 times 12 MB would be 61,440 faults of 4 kB pages if each were handed out anew."""
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=120, check=True)
    kept, faults = map(int, done.stdout.split())
    assert not kept or faults < 2_000
