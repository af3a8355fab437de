"""Docstring (Heimersheim & Janiak 2023): a Python docstring has described two arguments of a function; which is next?

The prompt has the study's form: six arguments, of which the third to fifth (A, B, C) are described in their order, with
random words for names and descriptions. The positions are named as there.

The corrupt prompt is the study's "random answer": another name in the place of C in the definition, the only token that
differs. That name does not occur in the clean prompt, so the metric says whether C is copied, and the accuracy among
the options, which hold all arguments, whether the right one is. The study's main corruption renames A and B too, in
definition and docstring apart, so that no answer is left to the corrupt prompt.
"""

import random

from workbench.inputs.pairs import Pair, Task

from ..templates import minimal_pair
from ..words import WORDS, word_list

NAMES = word_list(
    "data name file value result line user key path output node item text version string field start number index "
    "error context image message size event state row form query target code table source config status content label "
    "model response load port"
)
TEMPLATE = (
    "\ndef {function}(self, {first}, {second}, {A_def}, {B_def}, {C_def}, {last}):\n"
    '    """{w0} {w1} {w2}\n\n'
    "    :param {A_doc}: {w3} {w4}\n"
    "    :param {B_doc}: {w5} {w6}\n"
    "    :param"
)
POSITIONS = ("A_def", "B_def", "C_def", "A_doc", "B_doc", "end")


def draw(rng: random.Random) -> Pair:
    function, new, *arguments = rng.sample(NAMES, 8)
    first, second, a, b, c, last = arguments
    words = {"function": function, "first": first, "second": second, "last": last}
    words |= {"A_def": a, "B_def": b, "C_def": c, "A_doc": a, "B_doc": b}
    words |= {f"w{i}": word for i, word in enumerate(rng.sample(WORDS, 7))}
    return minimal_pair(
        TEMPLATE, words, {"C_def": new}, answer=c, wrong=new, options=(*arguments, new), positions=POSITIONS
    )


task = Task(
    name="docstring",
    title="Docstring",
    question="Which argument does the docstring describe next?",
    draw=draw,
    positions=POSITIONS,
    stages={"logits": "end", "mover-value": "C_def", "mover-query": "end"},
)
