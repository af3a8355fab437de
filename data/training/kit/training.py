"""The training loop: resumable, and the same bit for bit whether it was interrupted or not.

Nothing random has a state: what a step draws comes from a generator seeded with the recipe's seed and the step's
number. A checkpoint therefore is the weights, their average and the optimiser's two moments.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from workbench.errors import UsageError

from .recipe import Recipe

#: ``progress(done, total, what)``, as of `workbench.load`.
Progress = Callable[[int, int, str], None]
STEPS = "steps"


def train(recipe: Recipe, folder: Path, progress: Progress, stop_after: int | None = None) -> nn.Module | None:
    """Train by a recipe, from the newest checkpoint in ``folder/steps`` if there is one.

    Args:
        stop_after: stop after this step, with a checkpoint, as an interruption would.

    Returns:
        The trained model, in evaluation mode; None where it was stopped before its last step.

    Raises:
        UsageError: the checkpoint is of another recipe, or of other versions of the libraries.
    """
    with _one_thread():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            network = recipe.network().train()
        run = _Run(recipe, network)
        run.resume(folder / STEPS)
        while run.step < recipe.steps:
            generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + run.step)
            loss = recipe.batch_loss(network, generator)
            loss.backward()
            run.advance()
            if run.step % 10 == 0 or run.step == recipe.steps:
                progress(run.step, recipe.steps, f"training {recipe.name}, loss {loss.item():.3f}")
            if run.step == stop_after or (run.step % recipe.save_every == 0 and run.step < recipe.steps):
                run.save(folder / STEPS)
            if run.step == stop_after and run.step < recipe.steps:
                return None
        return run.finished()


class _Run:
    """A network on its way: its optimiser, the average of its weights, and the number of steps that were taken."""

    def __init__(self, recipe: Recipe, network: nn.Module) -> None:
        self.recipe, self.network, self.step = recipe, network, 0
        self.parameters = {name: x for name, x in network.named_parameters() if x.requires_grad}
        matrices = [x for x in self.parameters.values() if x.ndim > 1]
        others = [x for x in self.parameters.values() if x.ndim <= 1]
        groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.99))
        self.averages = {name: x.detach().clone() for name, x in self.parameters.items()} if recipe.average else {}

    def advance(self) -> None:
        """One step of the optimiser by the gradients, which are then dropped."""
        nn.utils.clip_grad_norm_(self.parameters.values(), 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.learning_rate_at(self.step)
        self.optimizer.step()
        self.optimizer.zero_grad()
        decay = min(self.recipe.average, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, average in self.averages.items():
                average.lerp_(self.parameters[name], 1 - decay)
        self.step += 1

    def tensors(self) -> dict[str, Tensor]:
        """All that a checkpoint holds; the tensors are the live ones."""
        moments = {}
        for name, parameter in self.parameters.items():
            state = self.optimizer.state[parameter]
            if not state:  # as AdamW makes it at its first step
                zeros = (torch.zeros_like(parameter) for _ in range(2))
                state.update(zip(("step", "exp_avg", "exp_avg_sq"), (torch.tensor(0.0), *zeros), strict=True))
            moments |= {f"{key}/{name}": state[key] for key in ("step", "exp_avg", "exp_avg_sq")}
        weights = {f"weight/{name}": x.detach() for name, x in self.parameters.items()}
        return weights | {f"average/{name}": x for name, x in self.averages.items()} | moments

    def save(self, folder: Path) -> None:
        """Write this step's checkpoint completely, then remove the earlier one."""
        folder.mkdir(parents=True, exist_ok=True)
        earlier = _checkpoints(folder)
        path = folder / f"{self.step:07}.safetensors"
        partial = path.with_suffix(".partial")
        save_file(self.tensors(), partial, metadata={"recipe": self.recipe.identity, "step": str(self.step)})
        os.replace(partial, path)
        for old in earlier:
            if old != path:
                old.unlink()

    def resume(self, folder: Path) -> None:
        """Take up the newest checkpoint."""
        for path in _checkpoints(folder)[-1:]:
            with safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("recipe") != self.recipe.identity:
                    raise UsageError(
                        f"{path} was made by another recipe for {self.recipe.name}, or with other versions of the "
                        f"libraries. Delete {folder}, or train into another folder."
                    )
                with torch.no_grad():
                    for name, x in self.tensors().items():
                        x.copy_(file.get_tensor(name))
                self.step = int(metadata["step"])

    def finished(self) -> nn.Module:
        """The network with the weights that are shipped, without gradients."""
        with torch.no_grad():
            for name, average in self.averages.items():
                self.parameters[name].copy_(average)
        return self.network.requires_grad_(False).eval()


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors")) if folder.is_dir() else []


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums are taken in one order, whatever the number of cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
