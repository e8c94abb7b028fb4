"""The kernels, one file a family; each file adds its own to the one table."""

from plugrad_numpy.kernels import activation as activation
from plugrad_numpy.kernels import attention as attention
from plugrad_numpy.kernels import channel_normalization as channel_normalization
from plugrad_numpy.kernels import convolution as convolution
from plugrad_numpy.kernels import creation as creation
from plugrad_numpy.kernels import cross_entropy as cross_entropy
from plugrad_numpy.kernels import drawing as drawing
from plugrad_numpy.kernels import dropout as dropout
from plugrad_numpy.kernels import elementwise as elementwise
from plugrad_numpy.kernels import indexing as indexing
from plugrad_numpy.kernels import linear as linear
from plugrad_numpy.kernels import linear_algebra as linear_algebra
from plugrad_numpy.kernels import loss as loss
from plugrad_numpy.kernels import movement as movement
from plugrad_numpy.kernels import normalization as normalization
from plugrad_numpy.kernels import optimizer as optimizer
from plugrad_numpy.kernels import pooling as pooling
from plugrad_numpy.kernels import power as power
from plugrad_numpy.kernels import recurrent as recurrent
from plugrad_numpy.kernels import reduction as reduction
from plugrad_numpy.kernels import scan as scan
from plugrad_numpy.kernels import searching as searching
from plugrad_numpy.kernels import selection as selection
from plugrad_numpy.kernels import softmax as softmax
from plugrad_numpy.kernels import sorting as sorting
from plugrad_numpy.kernels._table import table as table
