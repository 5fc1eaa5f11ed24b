"""At least 2,000 damaged files: no traceback, and nothing accepted that is certainly wrong."""

from __future__ import annotations

import pytest
from fuzz import damage

SEED = 16
EACH = 40  # files for one share

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", damage.KINDS)
def test_damaged_files(name, tmp_path, monkeypatch, capsys):
    damage.install(monkeypatch.setattr)
    count = EACH * damage.KINDS[name][1]
    report = damage.examine(name, count, SEED, tmp_path)
    with capsys.disabled():
        counts = ", ".join(f"{n} {what}" for what, n in sorted(report.counts.items()))
        print(f"\n{name}: {count} damaged files, {counts}, {len(report.faults)} faults", end="")
    assert not report.faults, "\n".join(report.faults[:20])
    assert sum(report.counts.values()) == count


def test_there_are_enough():
    assert EACH * sum(share for _, share in damage.KINDS.values()) >= 2000
