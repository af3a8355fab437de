"""Associative memories: pairs of a key and a value are written, and a query reads what is stored for the keys like it.

::

    from probes.memory.memory import Memory

    memory = Memory("delta", beta=1.0)
    memory.write(keys, values)  # [trial, pair, d_key], [trial, pair, d_value]
    memory.read(queries)        # [trial, query, d_value]

A file of `rules` is a rule of writing and reading. `laws` has the closed forms, `curve` measures how the error grows
with the number of pairs (`workbench.memory`), and `estimator` is a memory in scikit-learn's manner.
"""
