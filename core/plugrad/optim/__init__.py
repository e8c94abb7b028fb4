"""Optimizers, learning-rate schedules, clipping. Names, defaults and formulas are PyTorch's."""

from plugrad.optim.algorithms import SGD as SGD
from plugrad.optim.algorithms import Adagrad as Adagrad
from plugrad.optim.algorithms import Adam as Adam
from plugrad.optim.algorithms import AdamW as AdamW
from plugrad.optim.algorithms import RMSprop as RMSprop
from plugrad.optim.clip import clip_grad_norm as clip_grad_norm
from plugrad.optim.clip import clip_grad_value as clip_grad_value
from plugrad.optim.optimizer import Optimizer as Optimizer
from plugrad.optim.optimizer import ParamGroup as ParamGroup
from plugrad.optim.schedule import CosineAnnealingLR as CosineAnnealingLR
from plugrad.optim.schedule import ExponentialLR as ExponentialLR
from plugrad.optim.schedule import LambdaLR as LambdaLR
from plugrad.optim.schedule import LinearLR as LinearLR
from plugrad.optim.schedule import LRSchedule as LRSchedule
from plugrad.optim.schedule import MultiStepLR as MultiStepLR
from plugrad.optim.schedule import OneCycleLR as OneCycleLR
from plugrad.optim.schedule import SequentialLR as SequentialLR
from plugrad.optim.schedule import StepLR as StepLR
