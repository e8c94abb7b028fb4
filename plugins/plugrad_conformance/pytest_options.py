"""The options of ``pytest --pyargs plugrad_conformance --device DEVICE``.

pytest reads its command line before it looks for what ``--pyargs`` names, so these options cannot stand in the
package's ``conftest.py``: an entry point in the group ``pytest11`` leads here. Every run of pytest loads this module
where plugrad is installed, so it imports nothing more, and a run of other tests gets no option from it.
"""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """The options, in a run of the suite."""
    config = pluginmanager.getplugin("pytestconfig")
    if config is None or not any("plugrad_conformance" in str(a) for a in config.invocation_params.args):
        return
    levels = [f"L{n}" for n in range(5)]
    group = parser.getgroup("plugrad conformance")
    group.addoption("--device", default=None, help="the device under test; it must be named")
    group.addoption("--level", default=levels[-1], choices=levels, help="the highest level to run")
    group.addoption("--op", action="append", default=[], help="only the cases of this op; may be repeated")
