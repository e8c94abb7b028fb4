"""A backend of plugrad over plain Python's arrays: memory, and a kernel for each primitive."""
