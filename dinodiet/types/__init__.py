"""What the parts hand each other, and the contracts that they keep: one import for all of them."""

from dinodiet.types.backbone import Backbone, Description, Maskable, Splittable, Tokened, TokenLayout, Tokens
from dinodiet.types.data import (
    Batch,
    Channels,
    Data,
    DataSpec,
    Images,
    InputSpec,
    Interpolation,
    Rule,
    Selection,
    Statistics,
)
from dinodiet.types.evaluation import (
    CopyTraining,
    EmbeddingEvaluator,
    EncoderEvaluator,
    Evaluator,
    PlansTraining,
    SaysFitsLabels,
    TokenEvaluator,
    TrainingEvaluator,
    fits_labels,
    of_train,
)
from dinodiet.types.export import Embed, Exportable, ExportTarget, Unexportable
from dinodiet.types.method import Method, ParamGroup, Views
from dinodiet.types.runtime import AUTOCAST, Clock, Precision, Runtime, World
from dinodiet.types.score import Report, Score
from dinodiet.types.splits import Embeddings, EncoderSplits, Splits, TokenTable, TrainingSplits, Work
from dinodiet.types.tracker import Tracker

__all__ = [
    "AUTOCAST",
    "Backbone",
    "Batch",
    "Channels",
    "Clock",
    "CopyTraining",
    "Data",
    "DataSpec",
    "Description",
    "Embed",
    "EmbeddingEvaluator",
    "Embeddings",
    "EncoderEvaluator",
    "EncoderSplits",
    "Evaluator",
    "ExportTarget",
    "Exportable",
    "Images",
    "InputSpec",
    "Interpolation",
    "Maskable",
    "Method",
    "ParamGroup",
    "PlansTraining",
    "Precision",
    "Report",
    "Rule",
    "Runtime",
    "SaysFitsLabels",
    "Score",
    "Selection",
    "Splits",
    "Splittable",
    "Statistics",
    "TokenEvaluator",
    "TokenLayout",
    "TokenTable",
    "Tokened",
    "Tokens",
    "Tracker",
    "TrainingEvaluator",
    "TrainingSplits",
    "Unexportable",
    "Views",
    "Work",
    "World",
    "fits_labels",
    "of_train",
]
