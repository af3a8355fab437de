"""The public names of the workbench, each written once, here: `workbench/__init__.py` looks them up lazily."""

from . import testing as testing
from .attention.operator import Operator as Operator
from .core import Edit as Edit
from .core import Head as Head
from .errors import WorkbenchError as WorkbenchError
from .findings import Finding as Finding
from .findings import Report as Report
from .head_notes.notes import Notes as Notes
from .head_notes.of_model import notes as notes
from .head_scores.compute import scores as scores
from .head_scores.on_prompts import scores_on as scores_on
from .head_scores.result import HeadScores as HeadScores
from .inputs.paired import PairedInputs as PairedInputs
from .inputs.pairs import Pair as Pair
from .inputs.pairs import Pairs as Pairs
from .inputs.pairs import Task as Task
from .inputs.pairs import pairs as pairs
from .inputs.pairs import read_pairs as read_pairs
from .inputs.pairs import task as task
from .inputs.problems import check_pairs as check_pairs
from .models import load as load
from .models.anatomy import Anatomy as Anatomy
from .models.hooked import HookedModel as HookedModel
from .models.language import HookedLM as HookedLM
from .models.modality import Sizes as Sizes
from .models.swap import swap as swap
from .models.tiny import tiny as tiny
from .patching.attention_at import attention_at as attention_at
from .patching.attention_at import attention_between as attention_between
from .patching.attention_view import attention_view as attention_view
from .patching.estimate import Estimate as Estimate
from .patching.estimate import estimate as estimate
from .patching.generate import generate as generate
from .patching.generate import generations as generations
from .patching.operator_view import operator_view as operator_view
from .patching.path import path_patch as path_patch
from .patching.prompt_pair import prompt_pair as prompt_pair
from .patching.record import record as record
from .patching.recording import Recording as Recording
from .patching.run import Outcome as Outcome
from .patching.run import run as run
from .patching.screen import Screen as Screen
from .patching.screen import screen as screen
from .patching.sweep import sweep as sweep
from .patching.sweep_sets import sweep_sets as sweep_sets
from .plotting.attention_view import Attention as Attention
from .plotting.generations import Generations as Generations
from .plotting.operator_view import OperatorView as OperatorView
from .plotting.position_attention import AttentionBetween as AttentionBetween
from .plotting.position_attention import PositionAttention as PositionAttention
from .results.circuit import Circuit as Circuit
from .results.sweep import Sweep as Sweep
from .runs.run import Run as Run

__all__: list[str]
__version__: str
