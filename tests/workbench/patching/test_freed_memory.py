"""Memory that a sweep frees: used again while it lasts, and given back at the end."""

from __future__ import annotations

import subprocess
import sys

import pytest

from workbench.patching.memory import keep_freed_memory

ALLOCATE = """
import re, torch
from workbench.patching.memory import keep_freed_memory

def resident():
    with open("/proc/self/status") as status:
        return int(re.search(r"RssAnon:\\s+(\\d+)", status.read())[1]) / 1e3

before = resident()
with keep_freed_memory():
    tensors = [torch.ones(2**18) for _ in range(SIZE)]  # of 1 MB
    last = torch.ones(2**10)  # above the others, so that these are freed inside the heap
    during = resident()
    del tensors
    freed = resident()
print(during - before, freed - before, resident() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="it is glibc's memory")
def test_much_freed_memory_is_given_back_at_the_end() -> None:
    script = ALLOCATE.replace("SIZE", "400")
    done = subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.PIPE, text=True)
    during, freed, after = map(float, done.stdout.split())
    assert during > 380 and freed > 380  # not given back while it lasts
    assert after < 160


def test_an_error_passes_through() -> None:
    with pytest.raises(ZeroDivisionError), keep_freed_memory():
        raise ZeroDivisionError
