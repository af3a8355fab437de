# %% Find a circuit by path patching, and test whether it is enough for the task
import workbench as wb

model = wb.load("smollm2-135m-instruct-q4")
task = wb.task("ioi", n=16, seed=0)


# %% Who writes the answer, who feeds these heads' queries, and who feeds the values of those?
# Corrupt values are inserted, so what works for the answer lowers the metric; such heads are the next receivers.
def helpful(sweep, k=5):
    return [head for head in sweep.top(k) if sweep.mean_delta[head.layer, head.index] < 0]


to_logits = wb.path_patch(model, task)
movers = helpful(to_logits)
negative = [head for head in to_logits.top(5) if head not in movers]
inhibition = helpful(wb.path_patch(model, task, receivers=movers, into="q", position="end"))
early = helpful(wb.path_patch(model, task, receivers=inhibition, into="v", position="S2"))
roles = {"mover": movers, "negative mover": negative, "inhibition": inhibition, "early": early}
circuit = wb.Circuit(
    name="ioi",
    model="smollm2-135m-instruct-q4",
    heads=tuple((head, role) for role, heads in roles.items() for head in heads),
    provenance={"method": "path patching", "task": "ioi", "n": 16},
)
circuit.save("ioi.circuit.json")  # wb.Circuit.load("ioi.circuit.json") gives it back
print(circuit.table().to_string(index=False))

# %% Other prompts: what is left of the logit difference with everything but the circuit set to its mean,
# with the circuit itself set to its mean, and with no head at all?
heads = [wb.Head(i, j) for i in range(model.n_layers) for j in range(model.n_heads)]
sets = {
    "only the circuit": [h for h in heads if h not in circuit.head_set],
    "all but the circuit": circuit.head_set,
    "no head": heads,
}
left = wb.sweep_sets(model, wb.task("ioi", n=16, seed=1), sets, edit="mean", mean_over=wb.task("ioi", n=50, seed=2))
print(f"whole model: {left.base.mean():.2f}")
for name, values in zip(left.labels["set"], left.values):
    print(f"{name}: {values.mean():.2f}")
