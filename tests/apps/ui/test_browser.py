"""A walk over the page in a real browser, where gradio, playwright and Chromium are installed: sample, watch,
compare, edit with a mask, download, repeat.
"""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from latentdiff.apps.ui.models import ModelList
from latentdiff.apps.ui.server import serve
from latentdiff.apps.ui.service import PageService, PageView
from latentdiff.viz.images import read_recipe

pytest.importorskip("gradio")
playwright = pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium"),
    pytest.mark.filterwarnings("default"),
]
SHIFTS = """window.shifts = 0; new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shifts += entry.value;
}).observe({type: 'layout-shift', buffered: true})"""
WAIT = 120_000  # milliseconds; loaded machines are slow


@pytest.fixture(scope="module")
def url(
    tiny_folder: Path, tiny_denoiser_run: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The page of the tiny runs."""
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    before, folder = dict(os.environ), tmp_path_factory.mktemp("page")
    models = ModelList(tiny_folder / "runs", run=str(tiny_denoiser_run), device=torch.device("cpu"))
    service = PageService(models, folder)
    service.draw_opening()
    blocks = serve(service, host="127.0.0.1", port=port, folder=str(folder))
    yield f"http://127.0.0.1:{port}"
    blocks.close(verbose=False)
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(params=[1280, 390], ids=["desktop", "phone"])
def tab(request: pytest.FixtureRequest, url: str) -> Iterator[Any]:
    """The page, opened in a window of that width; nothing may be fetched from elsewhere, and nothing may be
    wider than the window.
    """
    elsewhere = []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": request.param, "height": 844}, accept_downloads=True)
        page.set_default_timeout(WAIT)
        page.on(
            "request",
            lambda asked: (
                elsewhere.append(asked.url) if not asked.url.startswith((url, "data:", "blob:")) else None
            ),
        )
        page.add_init_script(SHIFTS)
        page.goto(url)
        says(page, "sample", "4 images in")  # the page opens with pictures
        yield page
        assert page.evaluate("document.documentElement.scrollWidth") <= request.param
        browser.close()
    assert not elsewhere


def says(page: Any, which: str, text: str) -> None:
    """Wait until the line of a tab says so."""
    page.wait_for_function(
        f"document.querySelector('#status-{which}')?.innerText.includes({text!r})", timeout=WAIT
    )


def open_tab(page: Any, name: str) -> None:
    """Open a tab, which a phone shows behind its button for more."""
    found = page.get_by_role("tab", name=name)
    if not found.first.is_visible():
        page.get_by_label("More tabs").click()
        page.get_by_role("button", name=name).last.click()
        return
    found.first.click()


def unfold(page: Any) -> None:
    """Show the settings, which a phone has folded."""
    if not page.locator("#seed").is_visible():
        page.click("#settings > button")
        page.wait_for_selector("#seed", state="visible")


def downloaded(page: Any, which: str, path: Path, kind: str = "file") -> Path:
    with page.expect_download() as download:
        page.click(f"#{kind}-{which}")
    download.value.save_as(path)
    return path


def test_the_page_opens_with_pictures_that_stay_where_they_are_and_are_named(tab: Any) -> None:
    for which in ("draw-sample", "right-sample"):  # on the first screen of a phone, too
        assert tab.locator(f"#{which}").bounding_box()["y"] < 500
    assert tab.locator("#right-sample img").get_attribute("alt") == "The drawn pictures"
    assert tab.locator("#gallery button.thumbnail-item").count() == 4
    assert tab.evaluate("window.shifts") < 0.1
    tab.locator("#gallery button.thumbnail-item").nth(1).click()
    tab.wait_for_selector("#chosen", state="visible")
    tab.get_by_text("class bee · ddim").wait_for()
    tab.wait_for_timeout(800)  # it is scrolled to
    box = tab.locator("#chosen-image").bounding_box()
    assert box["y"] >= 0 and box["y"] + 200 < 844
    assert tab.locator("#chosen-image").bounding_box()["height"] > 200
    tab.get_by_role("tab", name="Sample").focus()
    for name in ("draw-sample", "another", "stop-sample"):
        tab.keyboard.press("Tab")
        while tab.evaluate("document.activeElement.getAttribute('role')") == "tab":
            tab.keyboard.press("Tab")
        if tab.evaluate("document.activeElement.ariaLabel") == "More tabs":
            tab.keyboard.press("Tab")
        assert tab.evaluate("document.activeElement.id") == name
    check_access(tab)


def test_the_dark_page_is_as_readable(tab: Any, url: str) -> None:
    tab.emulate_media(color_scheme="dark")
    tab.goto(url)
    says(tab, "sample", "Drawn before")
    background = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert sum(map(int, re.findall(r"\d+", background)[:3])) < 150
    check_access(tab)


def check_access(page: Any) -> None:
    """No tab has a critical or serious finding of axe-core (contrast, names, roles, focus)."""
    for place in ("Sample", "Compare", "Edit", "Repeat"):
        open_tab(page, place)
        page.wait_for_timeout(500)
        found = axe.Axe().run(page).response["violations"]
        grave = [
            (each["id"], each["nodes"][0]["html"])
            for each in found
            if each["impact"] in ("critical", "serious")
        ]
        assert not grave, place


def test_pictures_and_settings_are_kept_over_a_reload_and_used_again(tab: Any, tmp_path: Path) -> None:
    unfold(tab)
    set_number(tab, "steps-a", 9)
    tab.locator("#seed input").fill("77")
    tab.locator("#seed input").press("Tab")
    tab.keyboard.press("Control+Enter")
    tab.wait_for_function("document.querySelectorAll('#gallery .thumbnail-item').length == 8")
    tab.locator("#gallery .thumbnail-item").first.get_by_text("seed 77").wait_for()
    for name in ("zip", "gif"):
        assert downloaded(tab, "sample", tmp_path / name, name).stat().st_size > 100
    tab.click("#draw-sample")  # of what is shown already: others
    tab.wait_for_function("document.querySelectorAll('#gallery .thumbnail-item').length == 12")
    assert tab.locator("#seed input").input_value() != "77"
    tab.locator("#seed input").fill("77")
    tab.locator("#seed input").press("Tab")
    tab.click("#draw-sample")
    tab.wait_for_function("document.querySelectorAll('#gallery .thumbnail-item').length == 16")
    last = tab.locator("#moment-sample input[type=number]")
    last.fill("1")
    last.press("Enter")
    tab.get_by_text("The guess at t =").wait_for()
    tab.wait_for_selector("#left-sample", state="visible")
    tab.reload()
    says(tab, "sample", "Drawn before: seed 77")
    unfold(tab)
    assert tab.locator("#gallery .thumbnail-item").count() == 16
    assert tab.locator("#seed input").input_value() == "77"
    assert tab.locator("#steps-a input[type=number]").input_value() == "9"
    tab.locator("#seed input").fill("5")  # what was typed is drawn, also after a reload
    tab.locator("#seed input").press("Tab")
    tab.wait_for_timeout(500)
    tab.reload()
    says(tab, "sample", "Drawn before: seed 77")
    unfold(tab)
    tab.click("#draw-sample")
    tab.wait_for_function("document.querySelectorAll('#gallery .thumbnail-item').length == 20")
    tab.locator("#gallery .thumbnail-item").first.get_by_text("seed 5").wait_for()
    tab.locator("#gallery .thumbnail-item").nth(17).click()
    tab.wait_for_selector("#chosen", state="visible")
    tab.click("#use")
    tab.wait_for_function("document.querySelector('#seed input').value == '1'")
    tab.click("#vary")  # of seed 1, which is a bee
    says(tab, "edit", "4 images in")
    tab.wait_for_selector("#pair-edit", state="visible")
    recipe = read_recipe(downloaded(tab, "edit", tmp_path / "varied.png"))
    assert (recipe.made_by, recipe.label, recipe.seed, recipe.n) == ("edit", "bee", 1, 4)
    open_tab(tab, "Sample")
    tab.click("#another")
    tab.wait_for_function("document.querySelector('#seed input').value != '1'")


def test_a_walk_over_the_page(tab: Any, cli: Callable, tiny_folder: Path, tmp_path: Path) -> None:
    unfold(tab)
    set_number(tab, "steps-a", 20)
    tab.click("#draw-sample")
    says(tab, "sample", "t = ")
    says(tab, "sample", "4 images in")
    grid = downloaded(tab, "sample", tmp_path / "grid.png")
    assert read_recipe(grid).settings[0].steps == 20
    result = cli(f"sample --like {grid} --out {tmp_path}/again.png", cwd=tiny_folder)
    assert result.code == 0 and grid.read_bytes() == (tmp_path / "again.png").read_bytes()
    tab.wait_for_selector("#gallery img")
    assert tab.locator("#gallery button.thumbnail-item").count() == 8

    open_tab(tab, "Compare")
    unfold(tab)
    for which in "ab":  # both sides fit the model
        assert tab.locator(f"#guidance-{which} input[type=number]").input_value() == "2"
    tab.click("#draw-compare")
    says(tab, "compare", "right: 4 images in")
    left, right = (downloaded(tab, side, tmp_path / f"{side}.png") for side in ("left", "right"))
    assert (read_recipe(left).settings[0].sampler, read_recipe(right).settings[0].sampler) == (
        "ddim",
        "dpm++",
    )
    assert read_recipe(left).seed == read_recipe(right).seed

    open_tab(tab, "Edit")
    tab.click("#draw-edit")
    tab.get_by_text("expected an image").wait_for()
    for name in ("cut.png", "photo.png"):
        tab.set_input_files("input[data-testid$=-upload-button]", upload(tmp_path, name))
        if name == "cut.png":
            tab.get_by_text("cut.png: expected a PNG, JPEG or WEBP image, found").wait_for()
    tab.wait_for_timeout(3000)
    tab.click("#draw-edit")  # of the whole image, with nothing painted on it
    says(tab, "edit", "4 images in")
    assert read_recipe(downloaded(tab, "edit", tmp_path / "edited.png")).made_by == "edit"
    tab.click("#white")
    tab.wait_for_timeout(3000)
    tab.get_by_label("Fill in").check()
    tab.wait_for_selector("#solver", state="visible")
    brush(tab)
    set_number(tab, "n", 2)
    tab.click("#draw-edit")
    says(tab, "edit", "2 images in")
    recipe = read_recipe(downloaded(tab, "edit", tmp_path / "filled.png"))
    assert recipe.made_by == "inpaint" and recipe.restoration is not None
    with Image.open(tmp_path / "filled.png") as image:
        white = (np.asarray(image)[..., 0] == 255).mean()
    assert 0.2 < white < 0.95  # what was not painted is still there

    open_tab(tab, "Repeat")
    assert (
        cli(
            "sample --run runs/denoiser -n 3 --label bee --steps 7 --seed 11 --out b.png", cwd=tiny_folder
        ).code
        == 0
    )
    tab.set_input_files("#upload input[type=file]", tiny_folder / "b.png")
    says(tab, "repeat", "taken over")
    open_tab(tab, "Sample")
    tab.click("#draw-sample")
    says(tab, "sample", "3 images in")
    assert downloaded(tab, "sample", tmp_path / "c.png").read_bytes() == (tiny_folder / "b.png").read_bytes()


def test_who_waits_may_leave(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second visitor waits for the first one's drawing, stops waiting at once, and comes back; those who go
    make room.
    """
    go_on, draw = Event(), PageService.sample

    def held(self: PageService, name: str, request: Any, *, stop: Event) -> Iterator[PageView]:
        for view in draw(self, name, request, stop=stop):
            yield view
            while not go_on.wait(0.05) and not stop.is_set():
                pass

    monkeypatch.setattr(PageService, "sample", held)
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        first, second, third = (browser.new_page() for _ in range(3))
        for page in (first, second, third):
            page.set_default_timeout(WAIT)
            page.goto(url)
            says(page, "sample", "4 images in")
        first.click("#draw-sample")
        says(first, "sample", "t = ")
        second.click("#draw-sample")
        says(second, "sample", "Waiting for 1 other drawing to end")
        second.click("#stop-sample")
        says(second, "sample", "Stopped")
        second.click("#draw-sample")
        says(second, "sample", "Waiting for 1 other drawing to end")
        third.click("#draw-sample")
        says(third, "sample", "Waiting for 2 other drawings to end")
        second.close()
        says(third, "sample", "Waiting for 1 other drawing to end")
        first.close()
        says(third, "sample", "t = ")
        go_on.set()
        says(third, "sample", "4 images in")
        browser.close()


def upload(folder: Path, name: str) -> Path:
    """A picture to be uploaded; the one that is called cut.png is."""
    Image.fromarray(np.arange(40 * 60 * 3, dtype=np.uint8).reshape(40, 60, 3)).save(folder / name)
    if name == "cut.png":
        (folder / name).write_bytes((folder / name).read_bytes()[:200])
    return folder / name


def set_number(page: Any, control: str, value: int) -> None:
    field = page.locator(f"#{control} input[type=number]")
    field.fill(str(value))
    field.press("Enter")


def brush(page: Any) -> None:
    """Paint over the middle of the canvas."""
    canvas = page.locator("#editor canvas").first
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x - 40, y)
    page.mouse.down()
    for k in range(9):
        page.mouse.move(x - 40 + 10 * k, y + (15 if k % 2 else -15), steps=3)
    page.mouse.up()
    page.wait_for_timeout(1000)
