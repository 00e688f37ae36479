"""The pages of the documentation whose commands are for a laptop: each is walked, in order, as a reader does."""

from pathlib import Path

import pytest
from tests.kit.pages import WALKED, Block, Walk, blocks, shown


@pytest.mark.timeout(600)  # dozens of programs, one after another; each has a deadline of its own
@pytest.mark.parametrize("page", WALKED)
def test_whoever_follows_the_page_sees_what_it_shows(tmp_path: Path, page: str):
    with Walk(tmp_path) as walk:
        for block in blocks(page):
            walk.take(block)
        assert walk.typed


def test_a_page_that_shows_what_is_not_printed_fails(tmp_path: Path):
    with Walk(tmp_path) as walk:
        walk.take(Block("a page", "sh", "echo one\necho two\n"))
        walk.take(Block("a page", "text", "one\n…w…\n"))
        with pytest.raises(AssertionError, match="a page shows"):
            walk.take(Block("a page", "text", "two\none\n"))
        with pytest.raises(AssertionError, match="false"):
            walk.take(Block("a page", "sh", "false\n"))


def test_an_ellipsis_stands_for_anything_and_all_else_for_itself():
    assert shown("a…c\n", "xabbbc")
    assert not shown("a.c\n", "abc")
