"""Data: datasets, splits, batches, and the sets that examples and commands train on.

Datasets hold and make NumPy arrays on the host; `DataLoader` turns its batches into tensors on a device.
"""

from plugrad.data.dataset import ArrayDataset, Dataset, Subset, collate
from plugrad.data.idx import read_idx, write_idx
from plugrad.data.images import digits, fashion_mnist, load_digits, mnist
from plugrad.data.loader import BatchIterator, DataLoader
from plugrad.data.split import random_split, stratified_split
from plugrad.data.text import TextDataset
from plugrad.data.toy import curve, logic, xor

__all__ = [
    "ArrayDataset",
    "BatchIterator",
    "DataLoader",
    "Dataset",
    "Subset",
    "TextDataset",
    "collate",
    "curve",
    "digits",
    "fashion_mnist",
    "load_digits",
    "logic",
    "mnist",
    "random_split",
    "read_idx",
    "stratified_split",
    "write_idx",
    "xor",
]
