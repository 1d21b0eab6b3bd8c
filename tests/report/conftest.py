from __future__ import annotations

from pathlib import Path

import pytest

from support import need_shared


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of recorded fixtures and real records."""
    return need_shared("data").parent
