# %% What do the heads of a vision transformer look at? Scenes of textured shapes, with masks of the shapes.
import numpy as np

import workbench as wb

model = wb.load("shapes-vit")
shapes = wb.image_set("shapes")
pixels, labels, masks = shapes.test.pixels[:40, 0], shapes.test.labels[:40], np.asarray(shapes.test.masks)[:40]
images = wb.images(list(pixels), answer=labels, name="shapes")

# %% How far heads look and where, each beside a head that attends uniformly and beside random weights.
scores = wb.scores(model, images)
print(scores.chance().round(3).to_string(index=False))
print(scores.ranking("distance", k=3)[["head", "value", "low", "high"]].round(2).to_string(index=False))

# %% Do heads find the shapes? From CLS: the share of its attention to patches that goes to shapes, minus the share of
# the image that shapes cover. A head that attends uniformly has 0. Each interval is for one head: 16 are looked at.
patterns = wb.record(model, images, ["pattern"]).clean["pattern"]
from_cls = np.stack([pattern[:, :, 0, 1:].numpy() for pattern in patterns])  # [image, layer, head, patch]
from_cls /= from_cls.sum(-1, keepdims=True)
covered = masks.reshape(40, 8, 4, 8, 4).mean((2, 4)).reshape(40, 1, 1, 64)  # how much of each patch is shape
excess = (from_cls * covered).sum(-1) - covered.mean(-1)
mean, error = excess.mean(0), excess.std(0, ddof=1) / len(images) ** 0.5
for layer, head in zip(*np.unravel_index(np.argsort(-mean, axis=None)[:5], mean.shape)):
    print(f"{wb.Head(layer, head)}: {mean[layer, head]:+.3f} ± {1.96 * error[layer, head]:.3f}")

# %% The strongest of them on one scene: a map over the image.
layer, head = np.unravel_index(mean.argmax(), mean.shape)
seen = wb.attention_on_image(model, images.of([0]), layer=int(layer))
seen.picture(head=int(head), position="cls").savefig("head.png")
print(seen.table(head=int(head), position="cls").nlargest(3, "weight").to_string(index=False))

# %% Does the model need it? Each head set to its mean over the scenes, measured by the class's probability.
ablated = wb.sweep(model, images, edit="mean", metric="answer_probability")
print(ablated.baseline_note)
for strongest in ablated.top(5):
    change = ablated.mean_delta[strongest.layer, strongest.index]
    print(f"{strongest}: {change:+.3f}, attention to shapes {mean[strongest.layer, strongest.index]:+.3f}")
