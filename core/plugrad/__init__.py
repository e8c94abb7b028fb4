"""plugrad: a deep-learning framework that any accelerator can plug into."""

from plugrad.convert import asarray, from_dlpack
from plugrad.ops import *
from plugrad.tensor import Tensor
