"""Captured functions: the graph of what they compute (`ir`), its making (`capture`), passes over it, and the plan that runs it.

`jit` is what people use.
"""
