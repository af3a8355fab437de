# %% Do the movers of IOI still move the answer when some layers attend in another way?
import pandas as pd

import workbench as wb

model = wb.load("smollm2-135m-instruct-q4")
task = wb.task("ioi", n=16, seed=0)  # prompts of 14 to 20 tokens: a window of 8 is about half of one

# %% The movers: heads whose direct path to the logits carries the answer, on other prompts. Corrupt values lower it.
direct = wb.path_patch(model, wb.task("ioi", n=8, seed=1))
movers = [head for head in direct.top(5) if direct.mean_delta[head.layer, head.index] < 0]

# %% Each third of the model under another operator; weights and prompts stay. Then each mover's z at the last position
# is replaced by that of the corrupt prompt: how much of the logit difference between the names goes?
swaps = {"none": {}}
for layers in ("0-9", "10-19", "20-29"):
    for operator in ("sliding-window(window=8)", "lightning"):  # lightning with its norm
        swaps[f"{operator} in {layers}"] = {layers: operator}
rows = []
for name, operators in swaps.items():
    swapped = wb.swap(model, operators) if operators else model
    edits = {str(head): [wb.Edit("z", head.layer, head.index, "end", "patch")] for head in movers}
    sweep = wb.sweep_sets(swapped, task, edits)
    cells = sweep.table().set_index("set")
    row = {"swap": name, "logit difference": f"{sweep.base.mean():.2f}"}
    for head in edits:
        change, low, high = cells.loc[head, ["mean_delta", "delta_low", "delta_high"]]
        row[head] = f"{change:+.2f} [{low:+.2f}, {high:+.2f}]"
    rows.append(row)
table = pd.DataFrame(rows)
print(table.to_string(index=False))
