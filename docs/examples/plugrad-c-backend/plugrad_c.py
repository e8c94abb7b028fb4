import ctypes
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from plugrad import dtypes
from plugrad.backend import hookimpl
from plugrad.errors import BackendUnavailable, DeviceError
from plugrad.generated import Block, GeneratedBackend, GeneratedDevice
from plugrad.graph.source import MEMORY, Dialect

C = Dialect(
    kernel="static void",
    function="static",
    pointer="{type} *{name}",
    indices=("item0", "item1", "item2"),
    types={
        dtypes.bool: "uint8_t",
        **{d: f"{'u' if d.kind == 'uint' else ''}int{8 * d.itemsize}_t" for d in dtypes.INTEGER},
        dtypes.float32: "float",
        dtypes.float64: "double",
    },
    convert="({type})({value})",
    claim="*{name} == 0 && (*{name} = {value})",
    preambles={},
    lanes={dtypes.float32: 1, dtypes.float64: 1},
)
HEAD = "#include <math.h>\n#include <stdint.h>\n#include <tgmath.h>\nstatic int64_t item0, item1, item2;\n"
LOOPS = """
void launch(const int64_t *size, void **arguments)
{{
    for (item2 = 0; item2 < size[2]; ++item2)
        for (item1 = 0; item1 < size[1]; ++item1)
            for (item0 = 0; item0 < size[0]; ++item0)
                {name}({arguments});
}}
"""


class CDevice(GeneratedDevice):
    dialect = C

    def __init__(self, compiler):
        super().__init__("c:0", f"C by {compiler}", frozenset(C.types), limit=1 << 40, largest=1 << 40)
        self.compiler, self.functions = compiler, {}
        self.folder = tempfile.TemporaryDirectory(prefix="plugrad-c-")
        self.probe()

    def block(self, size):
        memory = np.empty(size, np.uint8)
        return Block(memory.ctypes.data, size, host=memory)

    def write(self, memory, host):
        memory.block.host[: host.nbytes] = host

    def read(self, host, memory, offset):
        host[...] = memory.block.host[offset : offset + host.nbytes]

    def wait(self):
        pass

    def enqueue(self, source, size, group, arguments):
        given = [
            a if kind is not MEMORY or a is None else a.buffer
            for a, kind in zip(arguments, source.parameters)
        ]
        self.put([self.prepared(source, size, group, given)])
        return size, group

    def prepared(self, source, size, group, arguments):
        held = [
            ctypes.c_void_p(a) if kind is MEMORY else np.ctypeslib.as_ctypes_type(kind.numpy)(a)
            for a, kind in zip(arguments, source.parameters)
        ]
        places = (ctypes.c_void_p * len(held))(*map(ctypes.addressof, held))
        return self.function(source), (ctypes.c_int64 * 3)(*size, *(1,) * (3 - len(size))), places, held

    def set_argument(self, launch, index, buffer):
        launch[3][index].value = buffer

    def put(self, launches):
        with self.lock:  # the indices are global
            for function, size, places, _ in launches:
                function(size, places)

    def function(self, source):
        if source not in self.functions:
            kinds = (None if k is MEMORY else C.types[k] for k in source.parameters)
            arguments = (
                f"*({k} *)arguments[{i}]" if k else f"*(void **)arguments[{i}]" for i, k in enumerate(kinds)
            )
            text = HEAD + source.text + LOOPS.format(name=source.name, arguments=", ".join(arguments))
            library = Path(self.folder.name) / f"{len(self.functions)}.so"
            options = [
                "-O2",
                "-fwrapv",
                "-ffp-contract=off",
                "-shared",
                "-fPIC",
                "-xc",
                "-",
                "-lm",
                "-o",
                library,
            ]
            done = subprocess.run([self.compiler, *options], input=text, text=True, capture_output=True)
            if done.returncode:
                raise DeviceError(f"{self.name}: kernel {source.name!r} does not compile: {done.stderr}")
            self.functions[source] = ctypes.CDLL(str(library)).launch
        return self.functions[source]


class CBackend(GeneratedBackend):
    name = "c"

    def __init__(self):
        compiler = shutil.which("cc")
        if compiler is None:
            raise BackendUnavailable("there is no C compiler: install gcc or clang")
        super().__init__([CDevice(compiler)])


@hookimpl
def plugrad_create_backend():
    return CBackend()
