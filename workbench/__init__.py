"""Attention Workbench: record, patch and compare attention heads, exactly and with error bars.

::

    import workbench as wb

    model = wb.load("smollm2-135m-instruct-q4")
    sweep = wb.sweep(model, wb.task("ioi", n=25, seed=0))
    sweep.top(5)

Importing this module imports neither torch nor transformers: each name is looked up when it is first used.
"""

import lazy_loader

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
