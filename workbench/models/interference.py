"""What others put between a model and its numbers: hooks, replaced forwards, compiled code, torch modes, training."""

from __future__ import annotations

from functools import cache
from inspect import unwrap
from types import CodeType, FunctionType, MethodType
from typing import Any

from torch import nn
from torch.nn.modules import module as modules
from torch.nn.modules.dropout import _DropoutNd
from torch.overrides import _get_current_function_mode_stack
from torch.utils._device import DeviceContext
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack


def changed_by_others(name: str, module: nn.Module) -> str:
    """What runs besides the module's own forward in evaluation mode; empty where nothing does."""
    name = name or type(module).__name__
    if module.training and differs_in_training(module):
        return f"{name} is in training mode (call model.eval())"
    if "_hf_hook" in module.__dict__:
        return f"accelerate has replaced the forward of {name} (device_map or offloading)"
    if has_foreign_hooks(module) or has_other_forward(module):
        return f"foreign hooks are active on {name}"
    if module.__dict__.get("_compiled_call_impl") is not None:
        return f"{name} is compiled (torch.compile)"
    return ""


def in_training(model: nn.Module) -> str | None:
    """The name of a module in training mode that may compute something else there (dropout); None where none is."""
    for name, module in model.named_modules():
        if module.training and differs_in_training(module):
            return name or type(module).__name__
    return None


def differs_in_training(module: nn.Module) -> bool:
    """Whether code of the module's class reads ``training``: a new ``nn.ReLU`` in a model in evaluation mode does
    nothing else there."""
    if isinstance(module, _DropoutNd) and module.p == 0:
        return False
    return _reads_training(type(module))


@cache
def _reads_training(kind: type[nn.Module]) -> bool:
    classes = kind.__mro__[: kind.__mro__.index(nn.Module)]
    functions = (unwrap(f) for base in classes for f in vars(base).values() if isinstance(f, FunctionType))
    return any(_reads(f.__code__, "training") for f in functions)


def _reads(code: CodeType, name: str) -> bool:
    return name in code.co_names or any(_reads(c, name) for c in code.co_consts if isinstance(c, CodeType))


def has_other_forward(module: nn.Module) -> bool:
    """Whether another function was put in the place of the module's forward. Accelerate puts the own one back there."""
    forward: Any = module.__dict__.get("forward")
    if forward is None:
        return False
    is_own = isinstance(forward, MethodType) and forward.__self__ is module
    return not (is_own and forward.__func__ is type(module).forward)


def intercepted() -> str:
    """What intercepts torch's functions or every module's calls in this thread, and may change any number; empty where
    nothing does. Choosing a device (``with torch.device(...)``) changes none."""
    for mode in (*_get_current_function_mode_stack(), *_get_current_dispatch_mode_stack()):
        if not isinstance(mode, DeviceContext):
            return f"torch's functions are intercepted by {type(mode).__name__}"
    if modules._global_forward_hooks or modules._global_forward_pre_hooks:
        return "foreign hooks are active on every module"
    return ""


def has_foreign_hooks(module: nn.Module) -> bool:
    """Whether a module has hooks besides our own, which last for a run, and those that transformers leaves behind,
    which record outputs and change nothing."""
    hooks = (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
    return any(not str(getattr(hook, "__module__", "")).startswith(("transformers.", "workbench.")) for hook in hooks)
