"""The page in a real browser: Chromium paints, fills, downloads, draws; pictures are compared with the library's."""

from __future__ import annotations

import importlib.util
import io
import os
import re
import shutil
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from attennorm_tf.inference import inpaint, load_generator, load_inpainter
from attennorm_tf.visualization import to_uint8
from tests.export.serving_server import ServingServer, config_of, entry
from tests.export.tiny_models import write_filler
from tests.inference.gan_runs import write_run
from tests.inference.inpainters import tiny_config, write_checkpoint
from tests.processes import Process, start_module

CHROMIUM = next((path for path in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if path), None)
MISSING = [
    text
    for there, text in (
        (importlib.util.find_spec("gradio"), "Gradio (pip install 'attennorm_tf[demo]', Python 3.10 and newer)"),
        (importlib.util.find_spec("playwright"), "Playwright (pip install playwright)"),
        (CHROMIUM, "Chromium (apt-get install chromium)"),
    )
    if not there
]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"the page's test needs {', '.join(MISSING)}")

ARGUMENTS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
LEVEL = 77
MEGABYTE = 2**20
# Where each page keeps its files, as their addresses tell.
FOLDERS: dict[str, set[str]] = {}
WAIT = 60_000  # ms; a machine may be busy


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("page")
    write_checkpoint(root / "inpainting", tiny_config())
    write_run(root / "generation", ["cat", "dog", "owl"])
    write_filler(root / "served" / "1", LEVEL)
    random = np.random.default_rng(0)
    rows, columns = np.indices((900, 1300))
    pixels = np.stack([rows // 4, columns // 6, (rows + columns) // 9], axis=-1) + random.integers(0, 8, (900, 1300, 3))
    Image.fromarray(pixels.astype(np.uint8)).save(root / "large.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    small = random.integers(0, 256, (48, 80, 3), np.uint8)
    Image.fromarray(small).save(root / "small.png", exif=exif)  # 48 wide and 80 high, as a viewer shows it
    mask = np.zeros((80, 48), np.uint8)
    mask[20:44, 10:31] = 255
    Image.fromarray(mask).save(root / "mask.png")
    Image.fromarray(mask[:40]).save(root / "mask of another size.png")
    (root / "letter.png").write_text("Dear Sir")
    (root / "letter.txt").write_text("Dear Sir")
    (root / "heavy.png").write_bytes(os.urandom(5 * MEGABYTE))
    return root


def _started(root: Path, *models: str) -> Process:
    flags = [f"--model={model}" for model in models]
    # What the page is not given to use must not be asked for, either: a proxy that nothing listens at.
    nowhere = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9", "no_proxy": "127.0.0.1"}
    return start_module(
        "attennorm_tf.cli.demo", *flags, "--port=0", "--max_upload_megabytes=4", "--max_pixels=1200000",
        env=nowhere,
    )  # fmt: skip


def _address(process: Process) -> str:
    end = time.monotonic() + 120
    while not (found := re.search(r"the page is at (http://127\.0\.0\.1:\d+/)", process.stdout)):
        assert process.poll() is None, process.stderr
        assert time.monotonic() < end, process.stdout
        time.sleep(0.05)
    return found.group(1)


@pytest.fixture(scope="module")
def demo(root: Path) -> Iterator[Process]:
    with _started(root, str(root / "inpainting"), str(root / "generation")) as process:
        yield process
        process.terminate()  # killed, it would leave its files behind
        process.wait(20)


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[ServingServer]:
    with ServingServer(config_of(entry("inpainting", root / "served"))) as server:
        yield server


@pytest.fixture(scope="module")
def served_demo(root: Path, server: ServingServer, demo: Process) -> Iterator[Process]:
    with _started(root, f"http://{server.rest_address}") as process:
        yield process
        process.terminate()  # killed, it would leave its files behind
        process.wait(20)


@pytest.fixture(scope="module")
def browser(root: Path, demo: Process, served_demo: Process) -> Iterator[Any]:
    """Started while the pages start."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


class Page:
    """The page in a tab of the browser; at the end no other host was asked for anything, and nothing went wrong."""

    def __init__(self, browser: Any, address: str):
        self.address = address
        self.tab = browser.new_page(viewport={"width": 1280, "height": 900})
        self.tab.set_default_timeout(WAIT)
        self.urls: list[str] = []
        self.problems: list[str] = []
        self.tab.on("request", lambda request: self.urls.append(request.url))
        self.tab.on("pageerror", lambda error: self.problems.append(str(error)))
        self.tab.goto(address)

    def check(self) -> None:
        strange = [url for url in self.urls if not url.startswith((self.address, "data:", "blob:"))]
        assert strange == []
        assert len(self.urls) > 10
        assert self.problems == []
        FOLDERS.setdefault(self.address, set()).update(
            re.findall(r"file=(/\S*?/attennorm-demo-\w+)/", " ".join(self.urls))
        )
        self.tab.close()

    def open(self, file: Path) -> None:
        self.tab.set_input_files("#inpaint-photo input[type=file]", file)

    def open_and_wait(self, file: Path) -> None:
        self.open(file)
        self.tab.wait_for_selector("#inpaint-painter [data-serial]")

    def mask(self, file: Path) -> None:
        with self.tab.expect_file_chooser() as chooser:
            self.tab.click("#inpaint-mask")
        chooser.value.set_files(file)

    def stroke(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """From one place to another, as shares of width and height."""
        box = self.tab.locator("#inpaint-painter .paint").bounding_box()
        places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in (start, end)]
        self.tab.mouse.move(*places[0])
        self.tab.mouse.down()
        self.tab.mouse.move(*places[1], steps=8)
        self.tab.mouse.up()

    def painted(self) -> int:
        """Coloured pixels on the screen's canvas."""
        count: int = self.tab.evaluate(
            """() => { const canvas = document.querySelector('#inpaint-painter .paint');
            const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
            let count = 0; for (let i = 3; i < data.length; i += 4) count += data[i] >= 80; return count; }"""
        )
        return count

    def tool(self, name: str) -> None:
        self.tab.click(f"#inpaint-painter .{name}")

    def size(self, pixels: int) -> None:
        self.tab.locator("#inpaint-painter .size").fill(str(pixels))

    def said(self, kind: str) -> str:
        selector = f"#inpaint-said .notice.{kind}"
        self.tab.wait_for_selector(selector)
        text: str = self.tab.inner_text(selector)
        return text

    def fill(self) -> np.ndarray:
        """The downloaded result."""
        self.tab.click("#inpaint-go")
        assert self.said("done").endswith("pixels filled, the others are the photo's own.")
        with self.tab.expect_download() as download:
            self.tab.click("#inpaint-download")
        with Image.open(download.value.path(), formats=["PNG"]) as picture:
            return np.asarray(picture)


@pytest.fixture
def page(browser: Any, demo: Process) -> Iterator[Page]:
    page = Page(browser, _address(demo))
    yield page
    page.check()


def _pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def test_paint_fill_compare_download(page: Page, root: Path) -> None:
    """A stroke on the smaller view fills a capsule of the photo at its own size, and nothing else."""
    photo = _pixels(root / "large.png")
    page.open_and_wait(root / "large.png")
    assert "large.png: 1300 x 900 pixels, painted on at 1024 x 709." in page.said("note")
    page.size(40)
    page.stroke((0.30, 0.40), (0.50, 0.40))
    result = page.fill()
    assert result.shape == photo.shape
    scale = 1300 / page.tab.locator("#inpaint-painter .paint").bounding_box()["width"]
    rows, columns = np.indices(photo.shape[:2])
    along = np.clip(columns, 0.30 * 1300, 0.50 * 1300)
    distance = np.hypot(columns - along, rows - 0.40 * 900) / scale  # in pixels of the screen, from the stroke
    changed = (result != photo).any(axis=-1)
    assert not changed[distance > 22].any()
    assert changed[distance < 18].mean() > 0.99
    # Before and after are there to compare, and the maps of all entities.
    assert page.tab.locator("#inpaint-result img").count() == 2
    page.tab.wait_for_selector("#inpaint-maps img")


def test_tools(page: Page, root: Path) -> None:
    page.open_and_wait(root / "large.png")
    every = 1024 * 709
    page.size(20)
    page.stroke((0.2, 0.2), (0.4, 0.2))
    thin = page.painted()
    page.tool("undo")
    assert page.painted() == 0
    page.tool("redo")
    assert page.painted() == thin
    page.size(60)
    page.stroke((0.2, 0.6), (0.4, 0.6))
    both = page.painted()
    assert 3.0 < (both - thin) / thin < 4.5  # thrice as thick, and rounder at its ends
    page.tool("eraser")
    page.stroke((0.1, 0.6), (0.5, 0.6))
    assert abs(page.painted() - thin) < 0.02 * thin
    page.tool("invert")
    assert abs(page.painted() - (every - thin)) < 0.03 * thin
    page.tool("brush")  # adds to the hole, inverted or not
    page.stroke((0.1, 0.2), (0.5, 0.2))
    assert page.painted() == every
    page.tool("clear")
    assert page.painted() == 0
    page.tab.focus("#inpaint-painter .paint")
    page.tab.keyboard.press("Control+z")
    assert page.painted() == every


def test_a_mask_is_uploaded_and_inverted(page: Page, root: Path) -> None:
    """What comes back is what the library makes of the same photo, mask and network; the photo's EXIF turns it."""
    page.open_and_wait(root / "small.png")
    page.mask(root / "mask.png")
    page.tab.wait_for_selector("text=Mask mask.png: 504 of 3,840 pixels are missing.")
    inpainter = load_inpainter(root / "inpainting")
    upright = np.rot90(_pixels(root / "small.png"), -1)
    for invert in (False, True):
        result = page.fill()
        hole = (_pixels(root / "mask.png") > 0) ^ invert
        np.testing.assert_array_equal(result[~hole], upright[~hole])
        expected = np.asarray(inpaint(root / "small.png", root / "mask.png", inpainter, invert=invert))
        np.testing.assert_allclose(result.astype(int), expected.astype(int), atol=1)
        page.tool("invert")
        page.tab.evaluate("document.querySelector('#inpaint-said .notice.done').classList.remove('done')")


def test_errors_are_in_words(page: Page, root: Path) -> None:
    page.tab.click("#inpaint-go")
    assert page.said("error") == "There is no photo yet. Drop one on the page first."
    page.open(root / "letter.png")
    page.tab.wait_for_selector("text=cannot read image 'letter.png': not a PNG, JPEG, WebP, BMP, TIFF or GIF image.")
    page.open(root / "letter.txt")
    page.tab.wait_for_selector("text=/[Ii]nvalid file type/")
    page.open(root / "heavy.png")
    page.tab.wait_for_selector("text=/exceed the maximum allowed size of 4/")
    Image.new("L", (1300, 1000)).save(root / "wide.png")
    page.open(root / "wide.png")
    page.tab.wait_for_selector("text=cannot read image 'wide.png': 1300 x 1000 pixels, more than max_pixels=1200000.")
    page.open_and_wait(root / "small.png")
    page.mask(root / "mask of another size.png")
    page.tab.wait_for_selector("text=/is 48 x 40 pixels, the photo 'small.png' is 48 x 80; they must be of one size/")
    page.tab.click("#inpaint-go")
    page.tab.wait_for_selector("text=No hole is painted. Paint over what is to be replaced, or upload a mask.")
    page.tool("invert")
    page.tab.click("#inpaint-go")
    page.tab.wait_for_selector("text=/The whole photo is painted over/")
    page.tab.click("#inpaint-other")
    page.tab.wait_for_selector("#inpaint-photo input[type=file]", state="attached")


def test_classes_are_drawn_and_blended(page: Page, root: Path) -> None:
    tab = page.tab

    def shown(selector: str) -> np.ndarray:
        tab.wait_for_selector(selector)
        with urllib.request.urlopen(tab.get_attribute(selector, "src")) as answer:
            return np.asarray(Image.open(io.BytesIO(answer.read())).convert("RGB"))

    def small(pixels: np.ndarray) -> np.ndarray:
        assert pixels.shape == (160, 160, 3)
        return pixels[::10, ::10]  # every pixel is a square of ten

    generator = load_generator(root / "generation").generator
    tab.click("button[role=tab]:has-text('Generate')")
    assert [name.strip() for name in tab.locator("#generate-classes label").all_inner_texts()] == ["cat", "dog", "owl"]
    tab.click("#generate-classes label:has-text('dog')")  # cat and owl are left
    tab.fill("#generate-count input[type=number]", "3")
    tab.fill("#generate-seed input", "5")
    tab.click("#generate-go")
    tab.wait_for_selector("#generate-maps img")
    tab.wait_for_selector("#generate-images button img >> nth=2")
    from attennorm_tf.inference import draw_latents

    latents = draw_latents(3, generator.latent_dim, 5)
    expected = to_uint8(generator.infer(latents, np.array([0, 2, 0], np.int32)).numpy())
    for index in range(3):
        found = small(shown(f"#generate-images button img >> nth={index}"))
        np.testing.assert_allclose(found.astype(int), expected[index].astype(int), atol=1)
    tab.wait_for_selector("#generate-blend-maps img")
    before = tab.get_attribute("#generate-blend img", "src")
    tab.fill("#generate-share input[type=number]", "25")
    tab.keyboard.press("Tab")
    tab.wait_for_function("before => document.querySelector('#generate-blend img')?.src !== before", arg=before)
    weights = np.array([[0.75, 0.25, 0.0]], np.float32)
    blended = to_uint8(generator.infer(latents[:1], weights).numpy())[0]
    np.testing.assert_allclose(small(shown("#generate-blend img")).astype(int), blended.astype(int), atol=1)
    tab.wait_for_selector("#generate-strip img")
    for name in ("cat", "owl"):
        tab.click(f"#generate-classes label:has-text('{name}')")
    tab.click("#generate-go")
    tab.wait_for_selector("#generate-said .notice.error:has-text('No class is chosen. Choose one or more.')")


def test_a_served_model(browser: Any, served_demo: Process, server: ServingServer, root: Path) -> None:
    page = Page(browser, _address(served_demo))
    page.tab.wait_for_selector("button[role=tab]")
    assert set(page.tab.locator("button[role=tab]").all_inner_texts()) == {"Inpaint"}
    photo = _pixels(root / "large.png")
    page.open_and_wait(root / "large.png")
    page.stroke((0.6, 0.3), (0.7, 0.35))
    result = page.fill()
    changed = (result != photo).any(axis=-1)
    assert 2000 < changed.sum() < 20000
    assert (result[changed] == LEVEL).all()
    assert page.tab.locator("#inpaint-maps").count() == 0  # this model has no layout
    server.__exit__()
    page.tab.click("#inpaint-go")
    assert re.match(r"server http://127\.0\.0\.1:\d+, model 'inpainting': UNAVAILABLE: .*", page.said("error"))
    page.check()


def test_others_names_for_this_machine_are_refused(demo: Process) -> None:
    request = urllib.request.Request(_address(demo), headers={"Host": "page.example"})
    with pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(request)


@pytest.mark.parametrize(
    ("process", "number", "code"), [("demo", signal.SIGINT, 130), ("served_demo", signal.SIGTERM, 143)]
)
def test_the_end(request: pytest.FixtureRequest, root: Path, process: str, number: int, code: int) -> None:
    """Last, since the pages are shared."""
    demo = request.getfixturevalue(process)
    (folder,) = FOLDERS[_address(demo)]
    assert os.listdir(folder)
    demo.send_signal(number)
    assert demo.wait(20) == code
    assert demo.stderr == ("interrupted\n" if number == signal.SIGINT else "")
    assert not os.path.exists(folder)
