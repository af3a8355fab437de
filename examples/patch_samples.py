# %% When, and in which heads, does a diffusion transformer decide that it draws a 3 and not an 8?
from typing import Any

import workbench as wb

steps = 6
loaded: Any = wb.load("digits-dit")
model = loaded.resampled(steps=steps, guidance=2.0, readout=wb.load("digits-vit"))
pairs = wb.latents(3, other=8, n=8, seed=0)  # the same noise, sampled as a 3 and as an 8

# %% One head at a time takes its values from the sample of the 8, in one step.
sweep = wb.sweep(model, pairs, by=["step", "head"], direction="noise")
print(sweep.baseline_note)
table = sweep.table().sort_values("effect", ascending=False)
print(table[["step", "head", "effect", "effect_low", "effect_high", "p_value"]].head(5).round(4).to_string(index=False))
sweep.picture().savefig("heads.png")

# %% The same heads in every step at once, as guidance by heads does it.
always = wb.sweep(model, pairs, direction="noise")
for head in always.top(5):
    print(f"{head} in every step: {always.mean_delta[head.layer, head.index]:+.3f} logits")

# %% All heads together, from a step on.
clean, corrupt = (float(baseline.value.value) for baseline in sweep.baselines)
late = {}
for first in range(steps):
    edits = [wb.Edit("z", layer, step=tuple(range(first, steps))) for layer in range(model.n_layers)]
    scores = wb.run(model, pairs, edits).scores("logit_difference")
    late[first] = float((clean - scores.mean()) / (clean - corrupt))
    print(f"every head, steps {first} to {steps - 1}: {late[first]:.2f} of the way from a 3 to an 8")
# Little of it: the class also reaches every layer directly, by the norms that are conditioned on it (adaLN).

# %% What the strongest head does to the image: no classifier, the distance from the unedited image.
pixels = model.resampled(readout=None)
strongest = always.top(1)[0]
zeroed = wb.run(pixels, pairs, [wb.Edit("z", strongest.layer, head=strongest.index, kind="zero")])
print(f"{strongest} set to zero moves the image by {float(zeroed.scores('image_distance').mean()):.3f}")
