"""What the page does, without a browser: limits, drawings as they happen, canvases, files with settings,
errors in a line.
"""

import shutil
import socket
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from queue import Queue
from threading import Event, Thread
from types import SimpleNamespace
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from PIL import Image

from latentdiff.apps.ui import limits, server, service
from latentdiff.apps.ui.canvas import SHOWN, blank, canvas, editor_image, image_of, open_upload, painted_mask
from latentdiff.apps.ui.drawing import DrawingQueue, Preview, stream
from latentdiff.apps.ui.models import ModelList
from latentdiff.apps.ui.request import (
    PageRequest,
    controls_of,
    error_html,
    in_words,
    parse_controls,
    plain,
    usual_request,
    usual_steps,
)
from latentdiff.apps.ui.service import PageService, PageView
from latentdiff.config.recipe import Recipe
from latentdiff.config.sampling import Sampling
from latentdiff.edit import SampleResult, sdedit
from latentdiff.errors import InputError
from latentdiff.pipeline.batching import Cancelled
from latentdiff.viz.images import image_grid, read_recipe, save_image

CPU = torch.device("cpu")
GREY, COLOUR = (1, 8, 8), (3, 8, 8)


@pytest.fixture
def page(tiny_folder: Path, tiny_denoiser_run: Path, tiny_pixel_run: Path, tmp_path: Path) -> PageService:
    """A service with the tiny runs."""
    return PageService(ModelList(tiny_folder / "runs", device=CPU), tmp_path / "pictures")


def name_of(page: PageService, run: str) -> str:
    return next(name for name in page.models.names() if name.startswith(f"{run}, step "))


def last(views: object) -> PageView:
    *_, found = views  # type: ignore[misc]
    return found


def test_the_list_has_the_models_with_a_denoiser(
    page: PageService, tiny_folder: Path, tiny_vae_run: Path
) -> None:
    names = page.models.names()
    assert not [name for name in names if name.startswith("vae")]
    model = page.models.load(name_of(page, "denoiser"))
    assert model.pipeline.classes == ("ant", "bee", "cat") and not model.takes_text
    assert page.models.of_weights(model.checkpoint.fingerprint) == model.name
    assert page.models.of_weights("0" * 64) is None
    with pytest.raises(InputError, match="expected one of"):
        page.models.load("../../etc")
    first = ModelList(tiny_folder / "none", run=str(tiny_folder / "runs" / "pixel"), device=CPU)
    assert first.names()[0].startswith("pixel,")
    shown = {name: text for text, name in first.choices()}
    assert (shown["digits"], shown["things"]) == ("digits", "things (texts)")
    assert (shown["digits-student"], shown["scenes-student"]) == (
        "digits-student (fast)",
        "scenes-student (texts, fast)",
    )
    with pytest.raises(InputError, match="no such run"):
        ModelList(tiny_folder / "runs", run="nowhere", device=CPU)


def test_a_drawing_is_shown_while_it_happens_and_is_that_of_sample(page: PageService) -> None:
    name = name_of(page, "denoiser")
    request = PageRequest(steps=5, guidance=2, seed=3, n=6)
    views = list(page.sample(name, request))
    assert len(views) == 5 + 2 and views[-1].status.startswith("6 images in ")
    assert (views[0].status, views[-2].status) == ("t = 20: 0%", "t = 0: 100%")
    assert all(view.grid is None and not view.files for view in views[:-1])
    assert (
        not (views[0].noisy == views[0].estimate).all()
        and not (views[0].estimate == views[-2].estimate).all()
    )
    wanted = page.models.load(name).drawing.sample(6, steps=5, guidance=2, seed=3, label=[0, 1, 2, 0, 1, 2])
    assert (views[-1].estimate == image_grid(wanted, columns=3)).all()
    assert [caption for _, caption in views[-1].files][:2] == ["seed 3 · ant", "seed 4 · bee"]


def test_a_finished_drawing_leaves_its_moments_an_archive_and_a_gif(page: PageService) -> None:
    views = list(page.sample(name_of(page, "denoiser"), PageRequest(steps=5, n=3)))
    done = views[-1].done
    assert done is not None and done.pair is None
    assert [line for line, _, _ in done.moments] == [view.status for view in views]
    for view, (_, noisy, estimate) in zip(views, done.moments, strict=True):
        assert (noisy == view.noisy).all() and (estimate == view.estimate).all()
    with ZipFile(done.archive) as packed:
        assert packed.namelist() == [path.name for path, _ in done.files] and packed.testzip() is None
        assert packed.read(done.files[1][0].name) == done.files[1][0].read_bytes()
    assert [path.stem.split("-")[-1] for path, _ in done.files] == ["seed0", "seed1", "seed2"]
    with Image.open(done.gif) as film:
        assert film.n_frames > 2 and film.size == views[-1].estimate.shape[1::-1]


def test_the_page_opens_with_what_its_controls_would_draw_once_for_all(page: PageService) -> None:
    first = page.models.names()[0]
    assert page.opening(first) is None  # not drawn yet
    page.draw_opening()
    view = page.opening(first)
    assert view is not None and view.grid is not None and page.opening(first) is view
    again = last(page.sample(first, usual_request(page.models.load(first))))
    assert (again.estimate == view.estimate).all()
    assert page.opening(page.models.names()[1]) is None
    view.grid.unlink()  # the oldest pictures make room
    assert page.opening(first) is None


def test_a_kept_picture_is_known_by_the_controls_that_drew_it(page: PageService) -> None:
    name, request = name_of(page, "denoiser"), PageRequest(steps=5, seed=3, n=3, guidance=2, sampler="ddim")
    files = last(page.sample(name, request)).files
    assert page.is_first_of(files[0][0], name, request)
    assert not page.is_first_of(files[1][0], name, request)
    for other in ({"seed": 4}, {"steps": 6}, {"guidance": 1.0}, {"label": "bee"}):
        assert not page.is_first_of(files[0][0], name, request.model_copy(update=other))
    of_class = request.model_copy(update={"label": "bee"})
    assert page.is_first_of(last(page.sample(name, of_class)).files[0][0], name, of_class)
    assert not page.is_first_of(files[0][0], name_of(page, "pixel"), request)
    edited = last(page.edit(name, request, blank(GREY, 0), strength=0.5))
    assert not page.is_first_of(edited.files[0][0], name, request)


def test_a_server_that_ends_draws_no_opening_pictures(page: PageService) -> None:
    page.close()
    page.draw_opening()
    assert page.opening(page.models.names()[0]) is None


def test_the_guidance_of_a_model_is_within_the_scale_of_the_page(page: PageService) -> None:
    model = page.models.load(name_of(page, "denoiser"))
    strong = replace(model, pipeline=replace(model.pipeline, guidance=50.0))
    assert usual_request(strong).guidance == limits.GUIDANCE
    assert usual_request(model).guidance == 2 and usual_request(model).steps == model.pipeline.schedule.T


def test_a_browser_gets_back_its_pictures_and_no_other_file(page: PageService, tmp_path: Path) -> None:
    view = last(page.sample(name_of(page, "pixel"), PageRequest(steps=1, n=2)))
    places = [[page.place(path), caption] for path, caption in view.files]
    assert page.kept(places) == [(str(path), caption) for path, caption in view.files]
    (tmp_path / "secret.png").write_bytes(b"x")
    (tmp_path / "pictures" / "secret.png").write_bytes(b"x")
    for name in (
        "../secret.png",
        "secret.png",
        "000000/../../secret.png",
        "/etc/passwd",
        "000009/none.png",
        5,
    ):
        assert page.kept([[name, "x"]]) == [], name
    for nothing in (None, "x", [1], [["a"]], {"a": 1}):
        assert page.kept(nothing) == []
    assert len(page.kept(places * limits.HISTORY)) == limits.HISTORY


def test_an_edit_shows_its_image_before_and_after(page: PageService) -> None:
    image = np.random.default_rng(0).integers(0, 255, (8, 8), dtype=np.uint8)
    view = last(page.edit(name_of(page, "pixel"), PageRequest(steps=3, n=2), canvas(image, GREY), 0.0))
    assert view.done is not None and view.done.pair is not None
    before, after = view.done.pair
    assert (before == canvas(image, GREY)).all() and (after == before).all()
    changed = last(page.edit(name_of(page, "pixel"), PageRequest(steps=3), canvas(image, GREY), 0.9))
    assert changed.done is not None and changed.done.pair is not None
    assert (changed.done.pair[0] == before).all() and not (changed.done.pair[1] == before).all()


def test_texts_of_files_are_shown_as_they_are() -> None:
    """No picture of another machine is fetched for a prompt in a file."""
    assert plain("mine · “a cat” – ä") == "mine · “a cat” – ä"  # Markdown leaves backslashes before these
    shown = plain("![x](http://a.b) <b> *y* _z_ `w`")
    assert shown == r"\!\[x\]\(http\:\/\/a\.b\) \<b\> \*y\* \_z\_ \`w\`"


def test_settings_are_said_in_words() -> None:
    settings = Sampling(steps=7, guidance=3, negative_prompt="red")
    recipe = Recipe(
        weights="0" * 64,
        run="runs/mine/checkpoint-00000008",
        settings=(settings,),
        seed=4,
        prompts=("a cat",),
    )
    assert in_words(recipe) == "mine · “a cat” · not “red” · ddim, 7 steps · guidance 3 · seed 4"
    edited = recipe.model_copy(update={"made_by": "edit", "strength": 0.5, "prompts": (), "label": "bee"})
    assert in_words(edited).startswith("mine · an edit · not “red” · class bee · strength 0.5 · ddim")


def test_a_picture_of_the_page_is_repeated_by_the_command_line(
    page: PageService, cli: Callable, tiny_folder: Path, tmp_path: Path
) -> None:
    for request in (
        PageRequest(steps=4, guidance=2, n=7),
        PageRequest(label="bee", steps=3, sampler="dpm++", n=2, seed=9),
    ):
        view = last(page.sample(name_of(page, "denoiser"), request))
        result = cli(f"sample --like {view.grid} --out {tmp_path}/again.png --overwrite", cwd=tiny_folder)
        assert result.code == 0, result.err
        assert view.grid is not None and view.grid.read_bytes() == (tmp_path / "again.png").read_bytes()
        name, back, recipe = page.repeat(view.grid)
        assert (name, back) == (name_of(page, "denoiser"), request) and recipe.n == request.n
        one = page.repeat(view.files[1][0])[1]
        assert (one.n, one.seed, one.label) == (1, request.seed + 1, "bee")


def test_a_text_model_draws_its_prompt(text_folder: Path, tmp_path: Path) -> None:
    page = PageService(ModelList(text_folder / "runs", device=CPU), tmp_path)
    name = page.models.names()[0]
    view = last(page.sample(name, PageRequest(prompt="a disc on the left", guidance=3, steps=3, n=2)))
    assert view.grid is not None and read_recipe(view.grid).prompts == ("a disc on the left",)
    assert page.repeat(view.files[1][0])[1].prompt == "a disc on the left"
    assert "know" not in view.status
    request = PageRequest(prompt="a disc, zzyzx", negative="a disc on the right", guidance=3, steps=3, n=1)
    other = last(page.sample(name, request))
    assert other.status.endswith(" · words that it does not know: zzyzx")
    assert other.grid is not None and page.repeat(other.grid)[1] == request
    plain = last(page.sample(name, request.model_copy(update={"negative": ""})))
    assert not (plain.estimate == other.estimate).all()
    nothing = last(
        page.sample(name, PageRequest(guidance=3, steps=3))
    )  # nothing that guidance could exaggerate
    assert nothing.grid is not None and read_recipe(nothing.grid).settings[0].guidance == 1


def test_two_settings_start_from_one_noise(page: PageService) -> None:
    requests = PageRequest(steps=4, n=2, seed=1), PageRequest(steps=4, n=5, seed=8)
    pairs = list(page.compare(name_of(page, "denoiser"), requests))
    assert pairs[0][1] is None and pairs[-1][0] is not None and pairs[-1][1] is not None
    left, right = pairs[-1]
    assert (
        left.grid is not None and (left.estimate == right.estimate).all()
    )  # the same settings: the same images
    *_, (left, right) = page.compare(
        name_of(page, "denoiser"), (requests[0], PageRequest(steps=4, label="cat"))
    )
    assert not (left.estimate == right.estimate).all()
    with pytest.raises(InputError, match="needs a model conditioned on classes"):
        page.compare(
            name_of(page, "pixel"), (PageRequest(steps=2), PageRequest(steps=2, guidance=3))
        )  # before it waits or draws


def test_an_edit_is_sdedit_and_strength_0_keeps_the_image(page: PageService) -> None:
    name = name_of(page, "pixel")
    image = np.random.default_rng(0).integers(0, 255, (8, 8), dtype=np.uint8)
    seen, model = canvas(image, GREY), page.models.load(name)
    kept = last(page.edit(name, PageRequest(steps=3, n=2), seen, 0.0))
    assert (kept.estimate == image_grid(image_of(image, GREY).expand(2, -1, -1, -1))).all()
    view = last(page.edit(name, PageRequest(steps=5, n=2, seed=4), seen, 0.5))
    wanted = sdedit(
        model.pipeline, image_of(image, GREY).expand(2, -1, -1, -1), 10, settings=Sampling(steps=5), seed=4
    )
    assert (view.estimate == image_grid(wanted.images)).all()
    recipe = read_recipe(view.files[1][0])
    assert (recipe.made_by, recipe.strength, recipe.seed, recipe.n) == ("edit", 0.5, 5, 1)
    with pytest.raises(InputError, match="expected an image"):
        page.edit(name, PageRequest(steps=3), None, 0.5)


@pytest.mark.parametrize("run", ["pixel", "denoiser"])
def test_only_the_painted_part_is_filled_in(page: PageService, run: str) -> None:
    name = name_of(page, run)
    image = canvas(np.random.default_rng(0).integers(0, 255, (8, 8), dtype=np.uint8), GREY)
    layer = np.zeros((*image.shape[:2], 4), dtype=np.uint8)
    layer[SHOWN // 2 :] = 255
    view = last(
        page.inpaint(name, PageRequest(steps=12, n=2), image, [layer], page.models.load(name).solvers[0])
    )
    known, found = (
        np.asarray(grid)[2:10, 2:10, 0]
        for grid in (_small(image_grid(image_of(image, GREY))), _small(view.estimate))
    )
    assert (known[:4] == found[:4]).all() and not (known[4:] == found[4:]).all()
    assert view.grid is not None and read_recipe(view.grid).made_by == "inpaint"


def _small(grid: np.ndarray) -> np.ndarray:
    """A grid of 8x8 images before it was enlarged."""
    factor = grid.shape[0] // (2 + 8 + 2)
    return grid[::factor, ::factor]


def test_stop_ends_a_drawing_at_its_next_step(page: PageService) -> None:
    stop, seen = Event(), []
    with pytest.raises(Cancelled):
        for view in page.sample(name_of(page, "pixel"), PageRequest(steps=20, n=1), stop=stop):
            seen.append(view)
            stop.set()
    assert len(seen) < 16


def test_a_new_drawing_of_a_session_stops_the_one_before() -> None:
    queue, stops = DrawingQueue(), [Event() for _ in range(3)]
    with queue.enter("a", stops[0]), queue.enter("a", stops[1]), queue.enter("b", stops[2]):
        assert stops[0].is_set() and not stops[1].is_set()
        queue.stop("a")
        queue.stop("nobody")
        assert stops[1].is_set() and not stops[2].is_set()


def test_waiting_drawings_count_those_ahead_and_can_be_stopped() -> None:
    queue, events, go_on = DrawingQueue(), Queue[object](), Event()

    def wait(k: int) -> None:
        with queue.enter(str(k), Event()) as waiting:
            try:
                for ahead in waiting:
                    events.put((k, ahead))
            except Cancelled:
                events.put((k, "stopped"))
                return
            events.put((k, "draws"))
            go_on.wait(30)

    threads = []
    for k, first in enumerate([(0, "draws"), (1, 1), (2, 2)]):
        threads.append(Thread(target=wait, args=(k,), daemon=True))
        threads[-1].start()
        assert events.get(timeout=30) == first
    queue.stop("1")
    assert sorted(events.get(timeout=30) for _ in range(2)) == [(1, "stopped"), (2, 1)]  # type: ignore[type-var]
    go_on.set()
    assert events.get(timeout=30) == (2, "draws")
    for thread in threads:
        thread.join(30)

    with ExitStack() as places:
        stops = [Event() for _ in range(limits.WAITING + 1)]
        for k, stop in enumerate(stops):
            places.enter_context(queue.enter(str(k), stop))
        full = pytest.raises(InputError, match=f"{limits.WAITING} drawings wait already")
        with full, queue.enter("0", Event()):
            pass
        assert not stops[0].is_set()
    with queue.enter("0", Event()) as waiting:
        assert list(waiting) == []


def test_an_editor_shows_its_background_until_something_is_painted() -> None:
    image, painted_on = np.zeros((8, 8, 4), np.uint8), np.ones((8, 8, 4), np.uint8)
    assert (
        editor_image(None) is None
        and editor_image({"background": None, "layers": [], "composite": None}) is None
    )
    assert editor_image({"background": image, "layers": [], "composite": None}) is image
    assert editor_image({"background": image, "layers": [], "composite": painted_on}) is painted_on


def test_uploads_are_read_as_images_of_a_data_set(tmp_path: Path) -> None:
    Image.new("RGBA", (9, 5), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert (
        open_upload(str(tmp_path / "clear.png")).shape == (5, 9, 1)
        and open_upload(str(tmp_path / "clear.png")).min() == 255
    )
    (tmp_path / "text.png").write_text("x")
    with pytest.raises(InputError, match=r"text.png: expected a PNG, JPEG or WEBP image, found: "):
        open_upload(str(tmp_path / "text.png"))


def test_a_damaged_checkpoint_is_not_offered(tmp_path: Path, tiny_pixel_run: Path) -> None:
    shutil.copytree(tiny_pixel_run, tmp_path / "runs" / "pixel")
    assert any(name.startswith("pixel,") for name in ModelList(tmp_path / "runs", device=CPU).names())
    (weights,) = (tmp_path / "runs").glob("*/checkpoint-*/denoiser/*.safetensors")
    weights.write_bytes(weights.read_bytes()[:500])
    assert not any(name.startswith("pixel,") for name in ModelList(tmp_path / "runs", device=CPU).names())


def test_the_page_opens_with_the_first_whole_model(tmp_path: Path, tiny_pixel_run: Path) -> None:
    shutil.copytree(tiny_pixel_run, tmp_path / "runs" / "pixel")
    (weights,) = (tmp_path / "runs").glob("*/checkpoint-*/denoiser/*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"~")  # as long as before
    models = ModelList(tmp_path / "runs", device=CPU)
    assert models.names()[0].startswith("pixel,") and models.first().name == models.names()[1]
    with pytest.raises(InputError):
        models.load(models.names()[0])


def test_a_drawing_ends_when_its_generator_is_closed() -> None:
    ended = Event()

    def draw(watch: object) -> SampleResult:
        try:
            for k in range(10**6):
                watch.show(
                    slice(0, 1),
                    SimpleNamespace(t=k, noisy=torch.ones(1, *GREY), estimate=torch.ones(1, *GREY)),
                )  # type: ignore[attr-defined]
                watch.progress(k, 10**6)  # type: ignore[attr-defined]
        finally:
            ended.set()
        raise AssertionError

    moments = stream(draw, (2, *GREY))
    first = next(moments)
    assert isinstance(first, Preview) and first.noisy[0].all() and not first.noisy[1].any()
    moments.close()  # type: ignore[attr-defined]
    assert ended.is_set()


def test_old_pictures_make_room(page: PageService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "KEPT", 2)
    grids = [last(page.sample(name_of(page, "pixel"), PageRequest(steps=1, n=1))).grid for _ in range(4)]
    assert [grid is not None and grid.exists() for grid in grids] == [False, False, True, True]


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"n": limits.IMAGES + 1}, "`n`: "),
        ({"steps": limits.STEPS + 1}, "`steps`: "),
        ({"steps": None}, "expected a whole number, got nothing"),
        ({"steps": 2.5}, "got 2.5"),
        ({"steps": float("nan")}, "got nan"),
        ({"seed": "abc"}, "got 'abc'"),
        ({"guidance": limits.GUIDANCE + 1}, "`guidance`: "),
        ({"prompt": "x" * (limits.PROMPT + 1)}, "`prompt`: "),
        ({"negative": "x" * (limits.PROMPT + 1)}, "`negative`: "),
        ({"seed": -1}, "`seed`: "),
        ({"sampler": "euler"}, "`sampler`: "),
    ],
)
def test_requests_beyond_the_limits_are_refused_in_a_line(change: dict, status: str) -> None:
    values = {
        "label": "",
        "prompt": "",
        "negative": "",
        "sampler": "ddim",
        "steps": 10,
        "guidance": 1,
        "seed": 0,
        "n": 4,
    }
    assert parse_controls(*values.values()) == PageRequest(steps=10)
    with pytest.raises(InputError, match=status) as error:
        parse_controls(*(values | change).values())
    assert "\n" not in str(error.value)


def test_the_page_states_its_limits() -> None:
    for value in (
        limits.IMAGES,
        limits.STEPS,
        limits.PROMPT,
        limits.SIDE,
        limits.UPLOAD // 2**20,
        limits.WAITING,
    ):
        assert str(value) in limits.describe()
    assert [usual_steps(name) for name in ("ddim", "dpm++", "ddpm")] == [50, 20, limits.STEPS]


def test_errors_become_a_line_without_marks_of_their_own() -> None:
    assert error_html(InputError("unknown class '<b>'\n now")) == "unknown class &#x27;&lt;b&gt;&#x27; now"
    assert error_html(InputError("`steps` is 0")) == "<code>steps</code> is 0"
    assert "fewer images" in error_html(RuntimeError("CUDA out of memory. Tried to"))
    with pytest.raises(ZeroDivisionError):  # a fault of the program is not hidden
        error_html(ZeroDivisionError())


def test_settings_that_the_page_has_no_control_for_are_refused() -> None:
    def recipe(**more: object) -> Recipe:
        return Recipe(weights="0" * 64, **{"settings": (Sampling(steps=3),)} | more)  # type: ignore[arg-type]

    assert controls_of(recipe(n=2, seed=5, label="bee")) == PageRequest(steps=3, n=2, seed=5, label="bee")
    assert (
        controls_of(recipe(settings=(Sampling(sampler="ddpm", steps=7, variance="small"),))).sampler == "ddpm"
    )
    noisy = recipe(settings=(Sampling(steps=3, eta=0.5),))
    assert controls_of(noisy, eta=0.5) == controls_of(noisy, eta=None) == PageRequest(steps=3, n=1)
    with pytest.raises(InputError, match="eta"):
        controls_of(recipe(settings=(Sampling(steps=3, eta=0.0),)), eta=0.5)
    for more, status in (
        ({"settings": (Sampling(steps=3, eta=0.5),)}, "eta"),
        ({"settings": (Sampling(steps=3), Sampling(steps=4))}, "several steps"),
        ({"interpolate": 4}, "interpolation"),
        ({"prompts": ("a", "b")}, "several prompts"),
        ({"n": 64}, "64 images"),
    ):
        with pytest.raises(InputError, match=status):
            controls_of(recipe(**more))


@pytest.mark.parametrize("shape", [GREY, COLOUR])
def test_a_canvas_comes_back_as_it_went(shape: tuple[int, int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 255, (8, 8, shape[0]), dtype=np.uint8)
    shown = canvas(image, shape)
    assert shown.shape == (SHOWN, SHOWN, 3)
    wanted = torch.from_numpy(image).permute(2, 0, 1)[None] / 127.5 - 1
    torch.testing.assert_close(image_of(shown, shape), wanted)
    opaque = np.dstack([shown, np.full(shown.shape[:2], 255, np.uint8)])
    torch.testing.assert_close(image_of(opaque, shape), wanted)
    assert float(image_of(blank(shape, 255), shape).min()) == 1
    assert image_of(np.zeros((30, 50), np.uint8), shape).shape == (1, *shape)
    with pytest.raises(InputError, match="at most 4096"):
        image_of(np.zeros((4097, 8), np.uint8), shape)


def test_a_mask_is_what_was_painted() -> None:
    layer = np.zeros((SHOWN, SHOWN, 4), dtype=np.uint8)
    with pytest.raises(InputError, match="brush over"):
        painted_mask([layer], GREY)
    layer[:56, :30, 3] = 255  # over half of the first pixel's place
    layer[56:112, 56:66, 3] = 255  # a sixth of another's
    mask = painted_mask([layer], GREY)
    assert mask.shape == (8, 8) and mask[0, 0] == 0 and float(mask.sum()) == 63
    layer[..., 3] = 255
    with pytest.raises(InputError, match="whole image is painted"):
        painted_mask([layer], GREY)


def test_without_gradio_one_line_says_what_to_install(
    cli: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "find_spec", lambda name: None)
    result = cli("ui", cwd=tmp_path)
    assert result.code == 1 and "pip install 'gradio>=6.31,<7'" in result.err and result.err.count("\n") == 1


def test_a_port_in_use_and_a_folder_without_models_are_refused_in_a_line(
    cli: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "find_spec", lambda name: object())
    monkeypatch.setattr("latentdiff.pipeline.checkpoint.runs.shipped_models", tuple)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = cli(f"ui --port {port}", cwd=tmp_path)
        assert result.code == 1 and "--port takes another" in result.err and result.err.count("\n") == 1
    result = cli(f"ui --port {port}", cwd=tmp_path)
    assert result.code == 1 and "no trained model in runs/" in result.err
    assert "cannot be listened on" in cli("ui --host 203.0.113.1", cwd=tmp_path).err


def test_a_hostile_picture_is_no_harm_to_the_page(page: PageService, tmp_path: Path) -> None:
    save_image(np.zeros((4, 4), np.uint8), tmp_path / "plain.png")
    (tmp_path / "text.png").write_text("<script>")
    for name in ("plain", "text"):
        with pytest.raises(InputError):
            page.repeat(tmp_path / f"{name}.png")
