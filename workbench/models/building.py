"""One thread at a time has transformers build a model.

While `from_pretrained` builds one, it takes ``PreTrainedModel.tie_weights`` away and changes torch's default dtype, for
the whole process. A second thread in the same place then finds tied weights missing, takes the empty function for the
original, and leaves it there.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_LOCK = threading.RLock()


@contextmanager
def building_a_model() -> Iterator[None]:
    """While it lasts, no other thread of the workbench builds a model. It does not reach threads that call transformers
    themselves."""
    with _LOCK:
        yield
