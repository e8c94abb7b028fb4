"""Passes: a graph in, a graph out, one file each."""
