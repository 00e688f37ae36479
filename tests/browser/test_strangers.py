"""The admin port's page between hostile servers and strangers: names run nothing, and the token stays where it is."""

from tests.kit.browser import browsing
from tests.kit.busy import IMAGE, INHERITED, SCRIPT, TOOLS, busy
from tests.kit.sidecars import Start
from tests.kit.upstream import Scripted
from tests.kit.waiting import until


async def test_names_of_a_hostile_server_are_shown_as_text_and_run_nothing(
    scripted: Scripted, start: Start
) -> None:
    sidecar = await busy(scripted, start)
    async with browsing() as seen:
        await seen.open(sidecar.admin)
        await seen.shown()
        assert await seen.page.locator("#name").inner_text() == f"{IMAGE}{SCRIPT}"
        names = await seen.page.locator("#rows bdi").all_inner_texts()
        assert {SCRIPT, IMAGE, INHERITED, "__proto__"} <= set(names)
        inherited = seen.page.locator("#rows tr").filter(has_text=INHERITED)
        flying = inherited.locator("td[data-column=flying]")
        assert (await flying.inner_text()).strip() == "0", "and not what every object has of that name"
        assert r"safe\u{202e}gnp.exe" in names, "what would turn the text around is written out"
        assert "<b>gone</b>" in await seen.page.locator("#notes").inner_text()
        found = "[document.scripts.length, document.images.length, document.querySelectorAll('b, i, iframe, object').length]"
        scripts, images, _ = await seen.page.evaluate(found)
        assert (scripts, images) == (1, 0), "but our own"
        assert await seen.page.evaluate("window.ran") is None
        await seen.quiet()


async def test_whoever_found_a_way_in_could_run_nothing_there(scripted: Scripted, start: Start) -> None:
    sidecar = await busy(scripted, start)
    async with browsing() as seen:
        await seen.open(sidecar.admin)
        await seen.shown()
        for way in (
            "document.body.innerHTML = '<img src=x onerror=\"window.ran=1\">'",
            "const s = document.createElement('script'); s.text = 'window.ran=1'; document.body.append(s)",
            "document.write('<script>window.ran=1</script>')",
        ):
            assert (
                await seen.page.evaluate(
                    f"() => {{ try {{ {way}; return '' }} catch (e) {{ return e.name }} }}"
                )
                == "TypeError"
            ), way
        tried = "fetch('http://localhost:1/').then(() => 'sent', (e) => e.name)"
        assert await seen.page.evaluate(tried) == "TypeError"
        assert "connect-src" in await seen.page.evaluate("window.violations")
        assert await seen.page.evaluate("window.ran") is None


async def test_the_token_is_asked_for_and_kept_nowhere(scripted: Scripted, start: Start) -> None:
    sidecar = await busy(scripted, start, admin_token="t0ken")
    async with browsing() as seen:
        page = seen.page
        await seen.open(sidecar.admin)
        for wrong, why in (("wrong", "refused"), ("t0ken\u00e9", "ASCII")):
            await page.get_by_label("Token", exact=True).fill(wrong)
            await page.keyboard.press("Enter")
            await page.get_by_role("alert").filter(has_text=why).wait_for()
            assert await page.locator("#shown").is_hidden()
            assert await page.locator("#rows tr").count() == 0
        await page.get_by_label("Token", exact=True).fill("t0ken")
        await page.keyboard.press("Enter")
        await seen.shown()
        assert await page.locator("#rows tr").count() == len(TOOLS)
        assert await page.evaluate("[document.cookie, localStorage.length, sessionStorage.length, location.href]") == [
            "", 0, 0, f"http://127.0.0.1:{sidecar.admin}/",
        ]  # fmt: skip
        assert "t0ken" not in await page.content()
        assert not [url for url in seen.asked if "t0ken" in url]
        await page.get_by_role("button", name="Forget token").click()
        await page.get_by_label("Token", exact=True).wait_for()
        assert await page.locator("#shown").is_hidden()
        await page.get_by_label("Token", exact=True).fill("t0ken")
        await page.keyboard.press("Enter")
        await seen.shown()
        await page.reload()
        await page.get_by_label("Token", exact=True).wait_for()


async def test_nothing_is_asked_of_another_host(scripted: Scripted, start: Start) -> None:
    sidecar = await busy(scripted, start)
    async with browsing() as seen:
        await seen.open(sidecar.admin)
        await seen.shown()
        await until(lambda: len(seen.reports) >= 2, "the page to ask again")
        assert {url.split("/", 3)[2] for url in seen.asked if not url.startswith("data:")} == {
            f"127.0.0.1:{sidecar.admin}"
        }
