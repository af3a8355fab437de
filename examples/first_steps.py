# %% A first look at a model: one head, every head's scores, and which heads a task needs
import workbench as wb

model = wb.load("smollm2-135m-instruct-q4")
prompt = "When Mary and John went to the store, John gave a drink to"

# %% What does one head attend to? In a notebook, `view` on a line of its own shows the whole pattern with its tokens.
view = wb.attention_view(model, prompt, layer=23, head=3)
print(view.table(k=4))

# %% Every head's scores, each beside what a uniform head and random weights would have (under a minute)
scores = wb.scores(model)
print(scores.table().nlargest(5, "induction")[["layer", "head", "induction", "induction_uniform", "previous_token"]])

# %% Which heads does the task need? Clean values into the corrupt run, one head at a time, exactly.
sweep = wb.sweep(model, wb.task("ioi", n=25, seed=0))
print(sweep.table().nlargest(5, "effect")[["layer", "head", "effect", "effect_low", "effect_high", "p_value"]])
sweep.picture().savefig("heads.png")
sweep.save("ioi.safetensors")  # wb.Sweep.load("ioi.safetensors") gives it back

# %% And what does the model say without its strongest head?
best = sweep.top(1)[0]
for edits in [], [wb.Edit("z", best.layer, head=best.index, kind="zero")]:
    print(wb.generate(model, prompt, edits=edits, max_new_tokens=3))
