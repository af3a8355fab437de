# %% Repair a task with heads of another: force the attention of a few heads, and see what the model then says
import workbench as wb

model = wb.load("smollm2-135m-instruct-q4")
ioi, colours = wb.task("ioi", n=16, seed=0), wb.task("colored-objects", n=40, seed=0)

# %% Heads that work against the answer of IOI, and heads that feed the queries of those that work for it.
# Corrupt values are inserted, so what works for the answer lowers the metric.
to_logits = wb.path_patch(model, ioi)
movers = [h for h in to_logits.top(5) if to_logits.mean_delta[h.layer, h.index] < 0]
negative = [h for h in to_logits.top(5) if h not in movers]
to_queries = wb.path_patch(model, ioi, receivers=movers, into="q", position="end")
inhibition = [h for h in to_queries.top(5) if to_queries.mean_delta[h.layer, h.index] < 0 and h not in negative]
print("negative movers:", *negative, "· inhibition:", *inhibition)

# %% In Colored Objects, make them attend to the two wrong colours; to the right one, and other heads, as controls
others = [wb.Head(h.layer, (h.index + 3) % model.n_heads) for h in negative]


def forced(heads, onto):
    return [wb.Edit("pattern", h.layer, h.index, "end", "pattern", attend_to=onto) for h in heads]


sets = {
    "negative movers onto the wrong colours": forced(negative, ("wrong1", "wrong2")),
    "inhibition heads onto the wrong colours": forced(inhibition, ("wrong1", "wrong2")),
    "negative movers onto the right colour": forced(negative, ("color",)),
    "other heads of the negative movers' layers": forced(others, ("wrong1", "wrong2")),
}
sweep = wb.sweep_sets(model, colours, sets, metric="accuracy")
print(sweep.table()[["set", "mean_delta", "delta_low", "delta_high", "p_value"]].to_string(index=False))
print(f"accuracy without an edit: {sweep.base.mean():.2f}")

# %% A prompt that the edit mends, before and after
inputs = colours.inputs(model.tokenizer)
mended = int((sweep.values[0] - sweep.base).argmax())
at = inputs.positions[mended]
print(inputs.texts[mended][0])
for edits in [], forced(negative, (at["wrong1"], at["wrong2"])):
    ids = wb.generate(model, inputs.clean[mended], edits=edits, max_new_tokens=2)
    print(repr(model.tokenizer.decode(ids[-2:])))
