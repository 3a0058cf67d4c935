import pytest

import reference_pages


@pytest.mark.parametrize("name", reference_pages.PAGES)
def test_a_generated_page_is_current(name):
    page = (reference_pages.DOCS / name).read_text(encoding="utf-8")
    assert page == reference_pages.PAGES[name](), "`make docs` writes it"


def test_every_key_of_a_recipe_says_what_it_means():
    silent = [line for line in reference_pages.recipe().splitlines() if line.startswith("|") and line.endswith("|  |")]
    assert silent == []
