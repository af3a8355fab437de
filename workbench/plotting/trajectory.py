"""`Trajectory`: samples of a diffusion model over the sampling steps."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, UInt8

from workbench import arguments
from workbench.core import Edit, describe_edit
from workbench.plotting import style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure as Picture

#: Letters of an inch of the title and of the foot.
_TITLE, _FOOT = 11, 15
#: What a picture can be of, and what it is called.
VIEWS: Mapping[str, str] = {
    "latent": "before each step",
    "estimate": "the image that each step’s prediction points at",
}


@dataclass(frozen=True, eq=False, repr=False)
class Trajectory:
    """Samples over the sampling steps, see `workbench.trajectory`.

    Attributes:
        latents: ``[sample, state, channel, row, column]`` (of videos a frame before the row): state i is the sample
            before step i, state 0 the noise, and the last state the finished sample.
        estimates: ``[sample, step, channel, row, column]``: the image that each step's prediction points at.
        times: of each step, from 1000 (noise) to 0.
        names: of the samples, such as ``"class 3, seed 0"``.
        model: its name.
        edits: under which they were made.
        info: sampler, steps and guidance.

    Examples:
        >>> model = wb.load("digits-dit").resampled(steps=4, guidance=2.0)
        >>> trajectory = wb.trajectory(model, wb.latents([3, 8]))
        >>> trajectory.latents.shape, trajectory.estimates.shape, trajectory.names
        ((2, 5, 1, 8, 8), (2, 4, 1, 8, 8), ('class 3, seed 0', 'class 8, seed 1'))
    """

    latents: Float[np.ndarray, "sample state channel *size"]
    estimates: Float[np.ndarray, "sample step channel *size"]
    times: tuple[float, ...]
    names: tuple[str, ...]
    model: str = ""
    edits: tuple[Edit, ...] = ()
    info: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        n, steps = len(self.names), len(self.times)
        return f"<{n} sample{'s' * (n != 1)} of {self.model} over {steps} step{'s' * (steps != 1)}>"

    @property
    def images(self) -> Float[np.ndarray, "sample channel *size"]:
        """The finished samples."""
        return self.latents[:, -1]

    @property
    def note(self) -> str:
        """What is seen of images that are no pictures; empty where they are."""
        channels = self.latents.shape[2]
        if channels in (1, 3):
            return ""
        first = "the first three of" if channels > 3 else "the mean of"
        return f"The sample has {channels} channels: {first} them are shown, from the smallest to the largest number."

    def distances(self, other: Trajectory) -> Float[np.ndarray, "sample state"]:
        """The root mean square difference of the samples' numbers from those of another trajectory, in each state; at
        the end it is the metric ``image_distance``.

        Raises:
            UsageError: it has other samples, steps or sizes.
        """
        if not isinstance(other, Trajectory) or other.latents.shape != self.latents.shape:
            raise arguments.refusal("other", other, "a trajectory of as many samples and steps, of this size")
        difference = self.latents.astype(np.float64) - other.latents
        return np.sqrt(np.square(difference).mean(axis=tuple(range(2, difference.ndim)), dtype=np.float64))

    def pixels(self, sample: int, step: int, shows: str = "estimate") -> UInt8[np.ndarray, "height width channel"]:
        """A picture of a sample: numbers from −1 to 1 as 0 to 255, the rest cut off; frames of a video side by side.

        Args:
            step: for ``"latent"`` also the number of steps, for the finished sample.
            shows: ``"latent"``, the sample before the step, or ``"estimate"``, what the step's prediction points at.

        Raises:
            UsageError: no such sample or step.
        """
        arguments.one_of("shows", shows, VIEWS)
        images = self.latents if shows == "latent" else self.estimates
        sample = arguments.index("sample", sample, len(images), "sample")
        return picture_of(images[sample, arguments.index("step", step, images.shape[1], "step")])

    def table(self, other: Trajectory | None = None) -> pd.DataFrame:
        """A row for each state of each sample: its mean and standard deviation, those of the estimate (none of the
        finished sample), and the distance from another trajectory, where one is given.

        Raises:
            UsageError: another trajectory that cannot be compared, see `distances`.
        """
        import pandas as pd

        distances = None if other is None else self.distances(other)
        rows = []
        for i, name in enumerate(self.names):
            for state in range(self.latents.shape[1]):
                row: dict[str, Any] = {"sample": name, "state": state, "time": [*self.times, 0.0][state]}
                for kind, images in (("latent", self.latents), ("estimate", self.estimates)):
                    image = images[i, state].astype(np.float64) if state < images.shape[1] else np.array(np.nan)
                    row |= {f"{kind}_mean": image.mean(), f"{kind}_std": image.std()}
                if distances is not None:
                    row["distance"] = distances[i, state]
                rows.append(row)
        return pd.DataFrame(rows)

    def picture(self, sample: int = 0, other: Trajectory | None = None) -> Picture:
        """A sample over the steps: before each step above, and what its prediction points at below; and below both the
        same of another trajectory, such as one under edits. The foot says which rows are which run, under which edits.

        Raises:
            UsageError: no such sample, or another trajectory that cannot be compared, see `distances`.
        """
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        sample = arguments.index("sample", sample, len(self.names), "sample")
        both, n = ([self] if other is None else [self, other]), len(self.times)
        if other is not None:
            self.distances(other)
        figure = Figure(figsize=(max(4.5, 0.9 * (n + 1)), 1.3 + 2.1 * len(both)), layout="constrained")
        FigureCanvasAgg(figure)
        every = figure.subplots(2 * len(both), n + 1, squeeze=False)
        for block, trajectory in enumerate(both):
            for kind, shows in enumerate(VIEWS):
                for state in range(n + 1):
                    axes = every[2 * block + kind][state]
                    axes.set_axis_off()
                    if shows == "estimate" and state == n:
                        continue
                    seen = trajectory.pixels(sample, state, shows)
                    axes.imshow(np.broadcast_to(seen, (*seen.shape[:2], 3)), interpolation="nearest")
                    if shows == "latent":
                        axes.set_title("end" if state == n else f"step {state}", fontsize=8)
        title = " · ".join(filter(None, (self.model, self.names[sample])))
        width = figure.get_figwidth()
        figure.suptitle(textwrap.fill(title, int(_TITLE * width)), fontsize=10, parse_math=False)
        runs = [trajectory._run(sample, self) for trajectory in both]
        rows = f"Upper row: the sample {VIEWS['latent']}. Lower row: {VIEWS['estimate']}."
        if other is None:
            lines = [rows, *([f"The run is {runs[0]}."] if self.edits else [])]
        else:
            lines = [f"Upper two rows: {runs[0]}. Lower two rows: {runs[1]}.", rows.replace("row:", "row of each two:")]
        note = "\n".join(textwrap.fill(line, int(_FOOT * width)) for line in lines)
        figure.supxlabel(note, fontsize=8, color=style.MARK, parse_math=False)
        return figure

    def _run(self, sample: int, first: Trajectory) -> str:
        """What a picture calls this run, beside the first one: its edits, and its model and sample where they are
        others."""
        own = [self.model] * (self.model != first.model) + [self.names[sample]] * (self.names != first.names)
        edits = "; ".join(map(describe_edit, self.edits))
        return ", ".join([*own, f"with edits ({edits})" if edits else "without edits"])


def picture_of(image: Float[np.ndarray, "channel *size"]) -> UInt8[np.ndarray, "height width some_channel"]:
    """A picture of an image from −1 to 1, see `Trajectory.pixels`. Of two channels the mean is shown, of more than
    three the first three, from the smallest to the largest number."""
    if image.shape[0] not in (1, 3):
        image = image[:3] if image.shape[0] > 3 else image.mean(0, keepdims=True)
        low, high = image.min(), image.max()
        image = (image - low) / (high - low) * 2 - 1 if high > low else np.zeros_like(image)
    levels = np.rint((image.clip(-1, 1) + 1) * 127.5).astype(np.uint8)
    if levels.ndim == 4:  # frames side by side
        levels = np.concatenate(list(np.moveaxis(levels, 1, 0)), axis=-1)
    return np.ascontiguousarray(np.moveaxis(levels, 0, -1))
