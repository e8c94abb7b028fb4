import array_api_strict

from plugrad.backend import hookimpl
from plugrad_array_api import ArrayAPIBackend


class StrictBackend(ArrayAPIBackend):
    name = "strict"

    def __init__(self):
        super().__init__(array_api_strict)


@hookimpl
def plugrad_create_backend():
    return StrictBackend()
