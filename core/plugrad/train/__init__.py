"""Training: the loop, its metrics, callbacks and checkpoints."""

from plugrad.train.callbacks import Callback as Callback
from plugrad.train.callbacks import EarlyStopping as EarlyStopping
from plugrad.train.checkpoint import CheckpointStore as CheckpointStore
from plugrad.train.checkpoint import load_checkpoint as load_checkpoint
from plugrad.train.metrics import Accuracy as Accuracy
from plugrad.train.metrics import Mean as Mean
from plugrad.train.metrics import MeanAbsoluteError as MeanAbsoluteError
from plugrad.train.metrics import Metric as Metric
from plugrad.train.progress import ProgressReporter as ProgressReporter
from plugrad.train.scaler import LossScaler as LossScaler
from plugrad.train.trainer import Trainer as Trainer
