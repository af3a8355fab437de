"""One operator a file: ``sliding_window.py`` *is* ``sliding-window``, and ends in ``operator = Operator(…)``.

A file whose name begins with an underscore is none.
"""
