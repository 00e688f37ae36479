"""Pages put together again are the result, whatever JSON it is."""

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from mcpace_sidecar.call.book import first_page, later_page
from mcpace_sidecar.call.paging import paginate
from mcpace_sidecar.call.policies import PageRule
from mcpace_sidecar.contract.config.traffic import PagedTool

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
RULES = st.builds(
    lambda items, size: PageRule(PagedTool.model_validate({"name": "t", "items": items, "bytes": size})),
    st.integers(1, 100),
    st.integers(40, 4000),
)


def all_pages(
    result: dict[str, Any], rule: PageRule, page_size: int | None
) -> tuple[Any, list[dict[str, Any]]] | None:
    cut = paginate(msgspec.json.encode(result), rule)
    if cut is None:
        return None
    book, more = cut
    shown = msgspec.json.decode(first_page(book, more, "h", "next_page"))
    first = msgspec.json.decode(shown["content"][0]["text"])
    pages = []
    number = 1
    while True:
        try:
            later = msgspec.json.decode(later_page(book, number, page_size, "h", "next_page"))
        except ValueError:
            break
        pages.append(msgspec.json.decode(later["content"][0]["text"]))
        number += 1
    assert {k: v for k, v in first.items() if k != "rest"} == pages[0] or page_size is not None
    return shown, pages


@given(
    items=st.lists(VALUES, min_size=2, max_size=60),
    rule=RULES,
    page_size=st.none() | st.integers(1, 100),
    wrap=st.sampled_from(["", "rows"]),
)
def test_the_items_of_all_pages_are_the_items_of_the_result_in_order(items, rule, page_size, wrap) -> None:
    document = {wrap: items, "unit": "m"} if wrap else items
    text = msgspec.json.encode(document).decode()
    found = all_pages({"content": [{"type": "text", "text": text}]}, rule, page_size)
    if found is None:
        return
    shown, pages = found
    read = [item for page in pages for item in page["data"]]
    assert msgspec.json.encode(read) == msgspec.json.encode(items)
    assert sum(page["showing"] for page in pages) == pages[0]["total"] == len(items)
    assert all(page["total_pages"] == len(pages) for page in pages)
    if wrap:
        assert msgspec.json.decode(shown["content"][0]["text"])["rest"] == {"unit": "m"}


@given(text=st.text(min_size=30, max_size=3000), rule=RULES)
def test_the_pages_of_a_text_are_the_text(text, rule) -> None:
    found = all_pages({"content": [{"type": "text", "text": text}]}, rule, None)
    if found is None:
        return
    _, pages = found
    if isinstance(pages[0]["data"], str):
        assert "".join(page["data"] for page in pages) == text
        assert sum(page["showing"] for page in pages) == len(text)


@given(items=st.lists(VALUES, min_size=2, max_size=40), note=st.text(max_size=30), rule=RULES)
def test_what_is_not_paged_is_shown_once(items, note, rule) -> None:
    content = [{"type": "text", "text": note}, {"type": "image", "data": "aGk=", "mimeType": "image/png"}]
    found = all_pages({"content": content, "structuredContent": {"result": items}}, rule, None)
    if found is None:
        return
    shown, pages = found
    if isinstance(pages[0]["data"], str):  # the note is longer than the items, and than a page
        assert "".join(page["data"] for page in pages) == note
        assert shown["structuredContent"] == {"result": items}
        return
    assert msgspec.json.encode([item for page in pages for item in page["data"]]) == msgspec.json.encode(
        items
    )
    kept = [block for block in shown["content"][1:] if block["type"] == "text"]
    said = {msgspec.json.encode(v) for v in (items, {"result": items})}
    if note.encode() not in said and len(items) != 1:
        assert kept == [content[0]]
    assert content[1] in shown["content"]


@given(
    spelling=st.sampled_from(["1.10", "1e400", "123456789012345678901234567890", "0.1000000000000000055"])
)
def test_numbers_keep_their_spelling(spelling) -> None:
    text = "[" + ",".join([spelling] * 5) + "]"
    rule = PageRule(PagedTool.model_validate({"name": "t", "items": 2}))
    cut = paginate(msgspec.json.encode({"content": [{"type": "text", "text": text}]}), rule)
    assert cut is not None
    page = msgspec.json.decode(first_page(*cut, "h", "next_page"))["content"][0]["text"]
    assert f'"data":[{spelling},{spelling}]' in page
