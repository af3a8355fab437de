"""Does attention that learns in context block, as the delta rule does and Hebb's does not?

Cues are vectors, and a protocol is a row of trials: one cue or two, and an outcome. What is measured is the answer to a
cue after each trial. The learners: the Hebbian memory; the delta rule, which is Rescorla and Wagner's model; a
transformer of two layers that learns in context; and that transformer before its training.

The transformer was taught random protocols with other cues, whose worth drifts (`data/conditioning/prompts.py`). No
prompt of its training has a new cue beside one that was met alone: it has met neither blocking nor conditioned
inhibition. The cues of each episode are drawn anew. Beside the answers stand those of the best possible predictor of
the training's prompts, a Kalman filter, and of least squares, for which nothing drifts (0 for a blocked cue).

Blocking: A is followed by 1, then A and B together. Control: another cue is followed by 1, then A and B together. With
cues that are alike, what B is answered before the compound phase is subtracted.

There are three networks, of different seeds, and each has to meet the thresholds. Tables: ``answers`` (every protocol
and learner), ``rules`` (the delta rule beside Rescorla and Wagner's model and closed forms), ``angles``, ``summary``.
"""

from __future__ import annotations

from workbench import arguments
from workbench.findings import Finding, Report, Study, Threshold, judge, summary_table

from ..conditioning import figures
from ..conditioning.measure import ATTENTION, DELTA, HEBB, UNTRAINED, Curves, angle_table, learners, rules_table


def run(study: Study) -> Report:
    """Settings: n: episodes, each with cues of its own. seed: of the cues. step: of the rules. cosines: of A and B,
    from 0 to 0.99."""
    n, step = study.n, arguments.number("step", study.settings["step"], above=0, at_most=1)
    cosines = [arguments.number("cosines", cosine, at_least=0, at_most=0.99) for cosine in study.settings["cosines"]]
    curves = Curves(learners(n, study.seed, step), study.step("every protocol, learner by learner"))
    angles = angle_table(n, study.seed, step, cosines)
    rules = rules_table(step)
    lost, share, untrained = curves.difference(ATTENTION), curves.share(ATTENTION), curves.difference(UNTRAINED)
    least, most = min(lost, key=lambda one: one.low), max(untrained, key=lambda one: one.high)
    delta, hebb = curves.share(DELTA)[0], curves.share(HEBB)[0]
    return study.report(
        judge(finding.thresholds, blocks=lost, control=(least, most), mostly=share),
        [
            "The delta rule, Rescorla and Wagner's model and the closed forms differ by "
            f"{rules.largest_difference.max():.0e} at most.",
            f"Blocking takes {delta.value:.2f} of the control's answer from the delta rule, and {hebb.value:.2f} from "
            "the Hebbian memory.",
            *(f"Network {i}: blocking takes {one:.2f} (n = {n} episodes)." for i, one in enumerate(share)),
        ],
        tables={
            "answers": curves.table(),
            "rules": rules,
            "angles": angles,
            "summary": summary_table(
                {f"share of the answer lost to blocking, network {i}": one for i, one in enumerate(share)}, n
            ),
        },
        charts={
            "protocols": figures.curves_chart(curves, n),
            "blocking": figures.blocking_chart(curves, n),
            "angles": figures.angle_chart(angles, n),
        },
    )


finding = Finding(
    name="conditioning",
    title="Does attention block?",
    question="Does a transformer that learns in context answer less to a cue that adds nothing to a known one?",
    claim=(
        "In-context attention blocks, though it was never taught to: a cue that joins a known one is answered by less "
        "than half of what it is answered beside an unknown one, and untrained attention shows nothing of the kind."
    ),
    thresholds={
        "blocks": Threshold("answer lost to blocking (1 = the outcome), each network", above=0),
        "control": Threshold(
            "answer lost to blocking, least of the networks",
            above="the most of any untrained network",
            refuted_by="value",
        ),
        "mostly": Threshold("share of the control's answer lost to blocking, each network", above=0.5),
    },
    run=run,
    defaults={"n": 50, "seed": 0, "step": 0.1, "cosines": (0.0, 0.1, 0.3, 0.5, 0.7)},
    full={"n": 400},
    source="Rescorla and Wagner 1972; as attention: Qiao 2025, arXiv 2508.08289; Kalman filter: Dayan and Kakade 2001",
    needs_model=False,
)
