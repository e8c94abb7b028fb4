"""Gradients: the engine that walks the record, and the transforms that people call."""
