"""The counts of what passed are part of the answer, also where pytest is told to be quiet."""

from __future__ import annotations

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for report in terminalreporter.getreports("passed"):
        if "/fuzz/" in report.nodeid:
            terminalreporter.write(report.capstdout.lstrip("\n"))
