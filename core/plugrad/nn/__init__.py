"""Layers and losses. Names, argument order, initialisation and state-dict names are PyTorch's; ``dim`` is ``axis``."""

from plugrad.nn import init as init
from plugrad.nn.activation import *
from plugrad.nn.attention import *
from plugrad.nn.container import *
from plugrad.nn.convolution import *
from plugrad.nn.dropout import *
from plugrad.nn.embedding import *
from plugrad.nn.linear import *
from plugrad.nn.loss import *
from plugrad.nn.module import *
from plugrad.nn.normalization import *
from plugrad.nn.pooling import *
from plugrad.nn.recurrent import *
from plugrad.nn.saving import load as load
from plugrad.nn.saving import save as save
from plugrad.nn.transformer import *
