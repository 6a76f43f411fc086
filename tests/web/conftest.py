"""A site for each test that wants one."""

from __future__ import annotations

import pytest

from tests.web.whole_site import Site


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path)
    yield site
    site.close()
