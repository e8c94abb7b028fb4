"""The backend's kernels by op; each file of this folder adds its own."""

from plugrad.backend.kernels import KernelTable

table = KernelTable()
