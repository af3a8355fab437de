"""Conditioning: protocols of cues and outcomes, played to associative memories and to transformers.

A cue is a key, an outcome a value, a compound the sum of its cues, and the answer to a cue is what is read with it.

::

    from probes.conditioning import memories
    from probes.conditioning.protocols import PROTOCOLS

    memories.answers("delta", PROTOCOLS["blocking"], step=0.1)  # to the cue in question, after each trial

`protocols` has the protocols, `memories` plays them to the rules of `probes.memory`, `networks` to the transformers
that learn in context and to their best answers, and `closed_forms` has what the delta rule and Hebb's come to.
"""
