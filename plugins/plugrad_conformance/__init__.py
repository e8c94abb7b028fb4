"""The conformance suite: what works of a backend, from its memory to training a network.

``plugrad conformance run DEVICE`` holds any installed backend against the same cases, and so does
``pytest --pyargs plugrad_conformance --device DEVICE``. No device is named here.
"""
