"""The pages of docs/: current, linked, and their blocks in order."""

import recipe_page


def test_the_reference_of_the_recipe_is_current():
    assert recipe_page.PAGE.read_text(encoding="utf-8") == recipe_page.current(), "`make docs` writes it"


def test_every_key_of_a_recipe_says_what_it_means():
    silent = [line for line in recipe_page.current().splitlines() if line.startswith("|") and line.endswith("|  |")]
    assert silent == []
