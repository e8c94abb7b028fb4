"""The table that every family of kernels adds to."""

from plugrad.backend.kernels import KernelTable

table = KernelTable()
