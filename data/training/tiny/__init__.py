"""Trains the tiny two-layer model of ``data/checkpoints/tiny``: ``python -m data.training.tiny``, a few minutes.

The model is a plain `transformers.LlamaConfig` with grouped-query attention. It learns three kinds of sequences, on
which the script insists (`recipe.BAR`), and the short prompts of the other tasks in ``data/tasks`` besides:

- induction: random distinct tokens of the vocabulary, then the same tokens again; predict the second copy;
- ``ioi``: the project's own prompts, clean and corrupt alike;
- coloured objects in a short form that two layers can learn ("... pencil red, cup blue, and ball green. The cup"). The
  one-shot prompts of the task ``colored-objects`` ask for two steps more than that, and this model does not do them.

The loss is taken at the answers (and the second copies) only, so this is no language model. Its tokeniser knows the
words of the tasks and nothing else, one token each with the space before it.

Training draws from a random stream of its own; the held-out texts of `recipe.EXCLUDED` are excluded as well.
Tasks with few different prompts (capitals) are learned by heart.
"""
