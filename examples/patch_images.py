# %% Which heads of a small vision transformer tell one digit from another?
import numpy as np
from sklearn.datasets import load_digits

import workbench as wb

pixels, classes = map(np.asarray, load_digits(return_X_y=True))  # 8 × 8 pixels from 0 to 16, in one row each
model = wb.load("digits-vit")
images = wb.images(list(pixels[:40].reshape(-1, 8, 8) / 16), answer=classes[:40], name="digits")

# %% Each image with one of another digit: clean above, corrupt below.
pairs = images.corrupted("relabel", seed=0)
pairs.show().save("pairs.png")

# %% One head at a time takes its values from the clean image.
sweep = wb.sweep(model, pairs, site="z", by="head")
print(sweep.baseline_note)
print(sweep.table().sort_values("effect", ascending=False)[["head", "effect", "effect_low", "effect_high"]].head(5))
sweep.picture().savefig("heads.png")

# %% Where it matters: one patch in the middle is covered, and the stream is patched at one position at a time.
covered = images.as_seen_by(model).corrupted("occlude", region="1,2").answered_by(model)
where = wb.sweep(model, covered, site="resid_pre", by="position", positions=["cls", "1,2"])
print(where.table()[["layer", "position", "mean_delta"]])

# %% How far the heads look, beside a head that looks everywhere.
scores = wb.scores_on(model, images)
print(scores.ranking("distance", k=3))
