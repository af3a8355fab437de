"""Speed, memory and agreement with other tools: ``python -m tests.benchmarks [NAME…] [--quick] [--json FILE]``.

No test asserts a time. Rivals run with their defaults, the prompts lie in ``prompts/``, whatever is compared is timed
in turns within one process, and a ratio is the median over the rounds of the ratio within one round.
"""
