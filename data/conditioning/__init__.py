"""Prompts of conditioning, the best answers to them, and the transformer that learns them in context.

A trial is one cue or two at once (a compound) and an outcome. Cues are directions, `x` is their sum, ``[prompt, trial,
cue_size]``, and `y` the outcomes, ``[prompt, trial]``. What is predicted of a trial is what its cues answer before its
outcome is known.
"""
