from __future__ import annotations

import pytest

from tunesmith.data.beginning import common_beginning


@pytest.mark.parametrize(
    ("texts", "shared"),
    [
        ([], ""),
        (["elm"], "elm"),
        (["elm tree", "elm", "elm hut"], "elm"),
        (["oak", "oar", "oa"], "oa"),
        (["x", "y"], ""),
        (["", "y"], ""),
    ],
)
def test_texts_share_their_beginning(texts: list[str], shared: str) -> None:
    assert common_beginning(texts) == shared
