# %% Repair a task with heads of another: force the attention of a few heads, and see what the model then says
import workbench as wb

model = wb.load("smollm2-135m-instruct-q4")
ioi, colours = wb.task("ioi", n=16, seed=0), wb.task("colored-objects", n=40, seed=0)

# %% Heads that tell IOI's movers what to leave alone
movers = wb.path_patch(model, ioi).top(5)
inhibition = wb.path_patch(model, ioi, receivers=movers, into="q", position="end").top(5)

# %% In Colored Objects, make them attend to the two wrong colours; to the right one, and other heads, as controls
others = [wb.Head(h.layer, (h.index + 3) % model.n_heads) for h in inhibition]


def forced(heads, onto):
    return [wb.Edit("pattern", h.layer, h.index, "end", "pattern", attend_to=onto) for h in heads]


sets = {
    "onto the wrong colours": forced(inhibition, ("wrong1", "wrong2")),
    "onto the right colour": forced(inhibition, ("color",)),
    "other heads of the same layers": forced(others, ("wrong1", "wrong2")),
}
found = wb.sweep_sets(model, colours, sets, metric="accuracy_among_options")
print(found.table()[["set", "mean_delta", "delta_low", "delta_high", "p_value"]].to_string(index=False))
print(f"accuracy among the options without an edit: {found.base.mean():.2f}")

# %% One prompt, before and after
inputs = colours.inputs(model.tokenizer)
at = inputs.positions[0]
print(inputs.texts[0][0])
for edits in [], forced(inhibition, (at["wrong1"], at["wrong2"])):
    ids = model.generate(inputs.clean[0], edits=edits, max_new_tokens=2)
    print(repr(model.tokenizer.decode(ids[-2:])))
