from __future__ import annotations

from pathlib import Path

from tunesmith.recipe.reference import write_reference

PAGE = Path(__file__).parents[3] / "docs" / "recipe.md"


def test_the_reference_page_is_what_the_recipe_says_of_itself() -> None:
    assert PAGE.read_text(encoding="utf-8") == write_reference(), (
        "write it again: python -m tunesmith.recipe.reference docs/recipe.md"
    )
