"""Recorded heads as associative memories: how many pairs the keys of a trained head could tell apart.

::

    from probes.head_memory.geometry import key_geometry

    geometry = key_geometry(model, texts)
    geometry.frame()          # one row per key/value head: participation ratios, entropy ranks, interference by law
    geometry.spectrum("9.1")  # the eigenvalues of key/value head 1 of layer 9

`spectra` has the formulas, `recorded` the keys and values as attention receives them, `geometry` their spectra over
texts, and `interference` what reads of `probes.memory` return for them.
"""
