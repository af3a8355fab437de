# %% Which heads carry the answer on prompts of your own?
import workbench as wb

model = wb.load("smollm2-135m-instruct-q4")
pairs = wb.pairs(
    clean=["When Anna and Paul went out, Paul gave a rose to", "When Mark and Lucy went out, Mark gave a book to"],
    corrupt=["When Anna and Paul went out, Anna gave a rose to", "When Mark and Lucy went out, Lucy gave a book to"],
    answer=[" Anna", " Lucy"],
    wrong=[" Paul", " Mark"],
)
sweep = wb.sweep(model, pairs, site="z", by="head")
print(sweep.table().sort_values("effect", ascending=False)[["layer", "head", "effect"]].head(5))
sweep.picture().savefig("heads.png")
