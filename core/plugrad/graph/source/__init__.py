"""Sources of kernels in languages of the C family: templates, into which a backend puts its `Dialect`.

Nothing here knows a device: a template gives the text of one kernel and the kinds of its parameters (`Source`), and the
backend that asked for it compiles and launches it. Shapes and strides are parameters, so that one text serves all of them.
"""

from plugrad.graph.source.attention import attention, attention_derivative
from plugrad.graph.source.convolution import convolution, convolution_weight
from plugrad.graph.source.dialect import MEMORY, Dialect, Profile, Source
from plugrad.graph.source.elementwise import elementwise
from plugrad.graph.source.expressions import cast_of, expression_of, next_bits
from plugrad.graph.source.fused import Launch, launch_of
from plugrad.graph.source.indexing import (
    gather,
    gather_rows,
    nonzero_count,
    nonzero_write,
    scatter,
    scatter_rows,
)
from plugrad.graph.source.layout import collapse, contiguous_strides
from plugrad.graph.source.pooling import avg_pool, avg_pool_derivative, max_pool, max_pool_derivative
from plugrad.graph.source.product import product, row_products, summed_parts, tiled_product
from plugrad.graph.source.program import Program, fuses, program_of
from plugrad.graph.source.reduction import arg_reduce, reduce, reduce_columns, reduce_rows
from plugrad.graph.source.scan import cumulative, merge_runs, sort_runs
from plugrad.graph.source.tile import Epilogue
from plugrad.graph.source.transposition import transpose

__all__ = [
    "MEMORY",
    "Dialect",
    "Launch",
    "Profile",
    "Program",
    "Epilogue",
    "Source",
    "arg_reduce",
    "attention",
    "attention_derivative",
    "avg_pool",
    "avg_pool_derivative",
    "cast_of",
    "collapse",
    "contiguous_strides",
    "convolution",
    "convolution_weight",
    "cumulative",
    "elementwise",
    "expression_of",
    "fuses",
    "gather",
    "gather_rows",
    "launch_of",
    "max_pool",
    "max_pool_derivative",
    "merge_runs",
    "next_bits",
    "nonzero_count",
    "nonzero_write",
    "product",
    "program_of",
    "reduce",
    "reduce_columns",
    "reduce_rows",
    "row_products",
    "scatter",
    "scatter_rows",
    "sort_runs",
    "summed_parts",
    "tiled_product",
    "transpose",
]
