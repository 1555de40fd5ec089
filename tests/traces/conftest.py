"""Every test here has a cache of its own, and property tests have no deadline."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A deadline would measure how busy the machine is.
settings.register_profile("traces", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("traces")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rendered rows of other tests, and of the user, are out of reach."""
    monkeypatch.setenv("LEADSPAN_CACHE", str(tmp_path / "cache"))
