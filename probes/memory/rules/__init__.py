"""One file a rule: ``gated_delta.py`` is the rule ``gated-delta``, and ends in ``rule = Rule(...)``."""
