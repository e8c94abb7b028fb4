"""Every op, once. One file a family."""

from plugrad.dispatch.op import Kind, Op, all_ops, op
from plugrad.ops.activation import *
from plugrad.ops.arithmetic import *
from plugrad.ops.arrangement import *
from plugrad.ops.assignment import *
from plugrad.ops.batch_normalization import *
from plugrad.ops.broadcasting import *
from plugrad.ops.casting import *
from plugrad.ops.comparison import *
from plugrad.ops.creation import *
from plugrad.ops.drawing import *
from plugrad.ops.einsum import *
from plugrad.ops.indexing import *
from plugrad.ops.linear import *
from plugrad.ops.linear_algebra import *
from plugrad.ops.lookup import *
from plugrad.ops.movement import *
from plugrad.ops.normalization import *
from plugrad.ops.optimizer import *
from plugrad.ops.padding import *
from plugrad.ops.ranges import *
from plugrad.ops.reduction import *
from plugrad.ops.rounding import *
from plugrad.ops.scan import *
from plugrad.ops.searching import *
from plugrad.ops.sets import *
from plugrad.ops.slicing import *
from plugrad.ops.softmax import *
from plugrad.ops.sorting import *
from plugrad.ops.transcendental import *
from plugrad.ops.trigonometry import *
from plugrad.ops.utility import *
