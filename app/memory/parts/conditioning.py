"""Conditioning: a protocol of cues and outcomes, trial by trial, and what each cue is answered with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import streamlit as st
from jaxtyping import Float

from app import url_widgets
from app.downloadable import PLOTLY_CONFIG, download_buttons
from app.memory.lines_figure import LinesFigure
from app.memory.view import View
from app.messages import escape_markdown
from app.part import ABOVE, Part
from app.small_table import show_table
from probes.conditioning import closed_forms, memories, networks
from probes.conditioning.protocols import PROTOCOLS, Protocol, cues_at
from workbench import statistics
from workbench.io.tables import printed
from workbench.plotting.charts import Line, Lines
from workbench.plotting.source import Source

PROTOCOL, LEARNER, STEP, ANGLE, TRIAL = (
    "protocol",
    "protocol-learner",
    "protocol-step",
    "protocol-cosine",
    "protocol-trial",
)
DELTA, HEBB, TRAINED, UNTRAINED = LEARNERS = ("delta", "hebbian", "trained", "untrained")
LABELS = {
    DELTA: "delta rule (Rescorla–Wagner)",
    HEBB: "Hebb’s rule",
    TRAINED: "trained attention",
    UNTRAINED: "untrained attention",
}
COSINES = ("0", "0.1", "0.3", "0.5", "0.7")
DELTA_LAW = (
    "every cue that is present changes by b (λ − the sum of the answers to all that are), Rescorla and Wagner 1972; "
    "the same as the delta rule of Widrow and Hoff 1960, and as what DeltaNet writes."
)
HEBB_LAW = "every cue that is present gains b λ, whatever else is present; Hebb 1949, and what linear attention writes."
#: Trials that take turns, at most.
LONGEST_CYCLE = 3
#: What is said of cues that are not orthogonal.
OVERLAP = (
    "Cues A and B have a cosine of {cosine:g}: what is written with one also moves the answer to the other, by that "
    "factor."
)
#: Episodes with cues of their own, over which the answers of a network are averaged.
EPISODES = 20


def render(view: View) -> None:
    """The part."""
    columns = st.columns([3, 3, 2, 2])
    with columns[0]:
        protocol = PROTOCOLS[url_widgets.select("Protocol", list(PROTOCOLS), PROTOCOL, default="blocking")]
    with columns[1]:
        learner = url_widgets.select("Learner", LEARNERS, LEARNER, format_func=LABELS.__getitem__)
    with columns[2]:
        step = url_widgets.decimal(
            "Step b", 0.01, 0.5, STEP, 0.1, help=STEP_HELP, disabled=learner not in (DELTA, HEBB)
        )
    with columns[3]:
        cosine = float(url_widgets.select("Cosine of A and B", COSINES, ANGLE))
    answers = _answers(protocol.name, learner, step, cosine)
    n = len(protocol.trials)
    trial = url_widgets.slider(
        "Trial", 0, n, TRIAL, n, help="With the arrow keys, trial by trial; 0 is before the first."
    )
    lines = _lines(protocol, learner, step, cosine, answers)
    figure = replace(lines, source=None).figure()
    figure.add_vline(x=trial, line={"width": 1, "dash": "dot", "color": "#888"})
    st.plotly_chart(figure, key="conditioning", config=PLOTLY_CONFIG)
    _at_trial(protocol, answers, trial)
    for line in _laws(protocol, learner, step, cosine):
        st.caption(escape_markdown(line))
    download_buttons(LinesFigure(lines), "conditioning", f"conditioning-{protocol.name.replace(' ', '-')}-{learner}")


@st.cache_resource(max_entries=64, show_spinner="Playing the protocol …")
def _answers(name: str, learner: str, step: float, cosine: float) -> dict[str, Float[np.ndarray, "episode time"]]:
    """By cue that is met: the answers before the first trial and after each one."""
    protocol = PROTOCOLS[name]
    protocols = {cue: replace(protocol, test=cue) for cue in cues_of(protocol)}
    if learner in (DELTA, HEBB):
        cues = cues_at(cosine=cosine)
        return {cue: memories.answers(learner, of, step, cues).numpy()[None] for cue, of in protocols.items()}
    episodes = networks.episodes(EPISODES, 0, cosine)
    predict = (networks.trained if learner == TRAINED else networks.untrained)(networks.SEEDS[0])
    return {cue: networks.answers(predict, of, episodes).numpy() for cue, of in protocols.items()}


def cues_of(protocol: Protocol) -> list[str]:
    """The cues that are met, in alphabetic order."""
    return sorted({letter for letters, _ in protocol.trials for letter in letters})


def _lines(
    protocol: Protocol, learner: str, step: float, cosine: float, answers: dict[str, Float[np.ndarray, "episode time"]]
) -> Lines:
    lines = {}
    for cue, rows in answers.items():
        interval = statistics.mean_interval(rows.T) if len(rows) > 1 else None
        ends = () if interval is None else (interval.low, interval.high)
        lines[f"cue {cue}"] = Line(np.arange(rows.shape[1], dtype=float), rows.mean(0), *ends)
    is_rule = learner in (DELTA, HEBB)
    alike = f"; cosine of A and B {cosine:g}" if cosine else ""
    of = f"step b = {step:g}" if is_rule else f"{EPISODES} episodes with cues of their own, 95 % intervals"
    details = (("protocol", protocol.name), ("learner", LABELS[learner]), ("cosine of A and B", f"{cosine:g}"))
    return Lines(
        lines,
        title=f"{protocol.name.capitalize()} · {LABELS[learner]}",
        subtitle=f"{written(protocol)}; {of}{alike}",
        x_title="trials",
        y_title="answer to the cue alone",
        source=Source(details=details + ((("step", f"{step:g}"),) if is_rule else ())),
    )


def written(protocol: Protocol) -> str:
    """The trials in short, such as ``20 × (A → 1), 20 × (AB → 1)`` or ``10 × (A → 1, B → 1), 10 × (AB → 1)``."""
    trials = [f"{letters} → {outcome:g}" for letters, outcome in protocol.trials]
    parts = []
    while trials:
        cycles = {size: _repeats(trials, size) for size in range(1, LONGEST_CYCLE + 1)}
        size = max(cycles, key=lambda of: (of * cycles[of] if cycles[of] > 1 else 1, -of))
        parts.append(f"{cycles[size]} × ({', '.join(trials[:size])})")
        trials = trials[size * cycles[size] :]
    return ", ".join(parts)


def _repeats(trials: list[str], size: int) -> int:
    """How often the first so many trials follow each other; 0 where there are fewer."""
    count = 0
    while len(trials) >= size * (count + 1) and trials[size * count : size * (count + 1)] == trials[:size]:
        count += 1
    return count


def _at_trial(protocol: Protocol, answers: dict[str, Float[np.ndarray, "episode time"]], trial: int) -> None:
    """What is present, what follows, and what each cue is answered with before and after."""
    if trial == 0:
        st.markdown("**Before the first trial**")
        show_table(pd.DataFrame([{"cue": cue, "answer": rows[:, 0].mean()} for cue, rows in answers.items()]))
        return
    letters, outcome = protocol.trials[trial - 1]
    present = " and ".join(letters)
    st.markdown(f"**Trial {trial}: {present}, then {outcome:g}**")
    rows = [
        {
            "cue": cue,
            "present": "yes" if cue in letters else "no",
            "answer before": of.mean(0)[trial - 1],
            "answer after": of.mean(0)[trial],
            "change": of.mean(0)[trial] - of.mean(0)[trial - 1],
        }
        for cue, of in answers.items()
    ]
    show_table(pd.DataFrame(rows))


def _laws(protocol: Protocol, learner: str, step: float, cosine: float) -> list[str]:
    """The law of the learner, and its source."""
    if learner == DELTA:
        lines = [f"Law: {DELTA_LAW}"]
        laws = closed_forms.delta(step)
    elif learner == HEBB:
        lines = [f"Law: {HEBB_LAW}"]
        laws = closed_forms.hebb(step)
    else:
        kind = "taught prompts of protocols with other cues" if learner == TRAINED else "before its first step"
        return [f"There is no law. A transformer of two layers, {kind} (workbench reproduce conditioning)."]
    if cosine:
        lines.append(OVERLAP.format(cosine=cosine))
    elif protocol.name in laws:
        lines.append(f"In the end, cue {protocol.test} by closed form: {printed(laws[protocol.name], '.4f')}.")
    return lines


STEP_HELP = "How much of the error, or of the outcome, a trial writes."
HELP = (
    "**Conditioning**: cues are keys, outcomes are values, and cues that are met together are added. *Blocking*: once "
    "A predicts the outcome, B beside it learns next to nothing by an error (the delta rule), and as much as ever "
    "without one (Hebb). Move *Trial* to see what each trial writes."
)
part = Part("conditioning", 20, ABOVE, render, ("language", "vision", "diffusion"), HELP)
