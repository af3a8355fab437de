"""Is a circuit enough for its task, does it hold all that matters, and does it need each of its heads?

The three tests of Wang et al. (ICLR 2023, arXiv 2211.00593), with heads as the parts of a circuit. Heads outside a set
are ablated at every position to their means over prompts of the task (the variant with unrelated names, where the task
has one). ``F(S)`` is the mean logit difference when only the heads S are left; MLPs always run.

- Faithfulness: ``(F(C) − F(∅)) / (F(all) − F(∅))`` of the circuit C: 1 when it does as well as the whole model, 0 when
  it does no better than no heads at all.
- Completeness: for sets K of the circuit's heads (each role, and different random subsets; all of them where there are
  no more), ``|F(all − K) − F(C − K)|``, as a share of ``F(all) − F(∅)``: 0 when nothing in the rest of the model steps
  in for K.
- Minimality: for each head v of the circuit, the largest ``|F(C − K − v) − F(C − K)|`` over K = ∅ and K = the other
  heads of its role, as the same share: heads near 0 are not needed.

Control: different random circuits with the same number of heads in each layer. The circuit is found by path patching on
other prompts of the same task, unless one is given (a circuit file, or a run directory). Tables: ``faithfulness``,
``completeness``, ``minimality``, ``heads``, ``summary``.
"""

from __future__ import annotations

import workbench as wb
from workbench.core import Head
from workbench.findings import Finding, NotJudged, Report, Study, Threshold, judge, summary_table
from workbench.runs.local_files import file_title

from .. import published
from ..circuit_source import circuit_of, heads_table, unrelated
from ..circuit_tests import CircuitTests, tested_sets
from ..distinct import how_many_like


def run(study: Study) -> Report:
    """Settings: task: its name. circuit: a file or run directory, "published" for the one in
    ``circuits/published.toml``, or nothing to find one. n: prompts of the tests. n_circuit: other prompts on which the
    circuit is found. percent: the share of heads of each stage. random_circuits: of the control. subsets: random
    subsets for completeness. seed: of all draws."""
    model, settings, task = study.model, study.settings, study.settings["task"]
    both = study.pairs(task, study.n + settings["n_circuit"])
    search_pairs, test = both.of(range(settings["n_circuit"])), both.of(range(settings["n_circuit"], len(both)))
    study.gate(both)
    roles = circuit_of(study, settings["circuit"], task, search_pairs, settings["percent"])
    every = frozenset(Head(i, j) for i in range(model.n_layers) for j in range(model.n_heads))
    circuit = frozenset(head for heads in roles.values() for head in heads)
    if not circuit or not circuit <= every:
        raise NotJudged("the circuit has no heads, or heads that this model does not have")
    left = tested_sets(roles, every, model.n_heads, settings["subsets"], settings["random_circuits"], study.seed)
    sweep = wb.sweep_sets(
        model,
        test,
        {name: sorted(every - heads) for name, heads in left.items()},
        mean_over=unrelated(study, both),
        progress=study.step("ablating all but a circuit"),
    )
    tests = CircuitTests.of(sweep, roles)
    faithfulness, completeness, minimality = tests.faithfulness(), tests.completeness(), tests.minimality()
    known = published.values_beside(study.model_name, finding.name, task, {"faithfulness": faithfulness})
    source = (
        f"from {file_title(settings['circuit'])}"
        if settings["circuit"]
        else f"found on n = {len(search_pairs)} other prompts"
    )
    return study.report(
        judge(finding.thresholds, enough=faithfulness, control=(faithfulness, tests.control)),
        [
            f"{task}: {len(circuit)} heads, {source}.",
            *tests.in_words(completeness, minimality, how_many_like(circuit, model.n_heads)),
            *published.values_in_words(known),
        ],
        tables={
            "faithfulness": tests.table().assign(n=sweep.n),
            "completeness": completeness.assign(n=sweep.n),
            "minimality": minimality.assign(n=sweep.n),
            "heads": heads_table(roles, task, len(search_pairs)),
            "summary": summary_table({"faithfulness": faithfulness}, sweep.n),
            **({"published_values": known} if len(known) else {}),
        },
        charts={"faithfulness": tests.chart(f"Faithfulness · {study.model_name} · {task} · n = {len(test)}")},
        data={task: test},
    )


finding = Finding(
    name="faithfulness",
    title="Is the circuit enough?",
    question="Does a circuit do its task alone, does it hold all that matters, and does it need each of its heads?",
    claim="The heads that path patching finds do more than half of the task alone, and more than random heads do.",
    thresholds={
        "enough": Threshold("faithfulness (share of the logit difference)", above=0.5),
        "control": Threshold(
            "faithfulness",
            above="the 95th percentile of random circuits with as many heads in each layer",
            refuted_by="value",
        ),
    },
    run=run,
    defaults={
        "task": "ioi",
        "circuit": "",
        "n": 25,
        "n_circuit": 20,
        "percent": 2.0,
        "random_circuits": 20,
        "subsets": 10,
        "seed": 0,
    },
    full={"n": 50, "random_circuits": 100, "subsets": 30},
    files=("circuit",),
    source="Wang et al., ICLR 2023, arXiv 2211.00593, section 4",
    results_version=2,  # the random circuits and halves are different ones
)
