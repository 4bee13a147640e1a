"""The browser client in a real Chromium: it registers a portrait, streams a sound file, and plays what comes."""

import shutil

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
]

pytestmark = [
    pytest.mark.browser,
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine"),
]


@pytest.fixture
async def page(application, slots_free):
    api = pytest.importorskip("playwright.async_api", reason="playwright is not installed")
    async with api.async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = await browser.new_page()
        page.complaints = []
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.set_default_timeout(120_000)
        await page.goto(application)
        yield page
        await browser.close()


async def test_a_visitor_registers_a_portrait_and_watches_it_speak(page, talk):
    await page.set_input_files("input[name=images]", talk.picture)
    await page.fill("input[name=name]", "Test head")
    await page.check("input[name=consent]")
    await page.click("#register button[type=submit]")
    await page.wait_for_selector("#portraits .choose[aria-pressed=true] >> text=Test head")

    await page.set_input_files("#sound", talk.wav)
    # Played to the end, not only received: 3 s, every frame of them.
    await page.wait_for_function("document.getElementById('video').ended")
    video = await page.evaluate(
        "(() => { const v = document.getElementById('video');"
        " return {time: v.currentTime, width: v.videoWidth, error: v.error && v.error.message,"
        " frames: v.getVideoPlaybackQuality().totalVideoFrames}; })()"
    )
    assert video["error"] is None
    assert video["width"] == 128
    assert video["time"] == pytest.approx(3.0, abs=0.05)
    assert video["frames"] > 0
    assert await page.inner_text("#frames") == "75"
    assert (await page.inner_text("#latency")).endswith("ms")
    assert "3.00 s in 5 blocks" in await page.inner_text("#status")
    assert page.complaints == []


async def test_a_picture_without_a_face_is_said_on_the_page(page, tmp_path):
    from PIL import Image

    Image.new("RGB", (200, 200), "gray").save(tmp_path / "wall.png")
    await page.set_input_files("input[name=images]", tmp_path / "wall.png")
    await page.check("input[name=consent]")
    await page.click("#register button[type=submit]")
    await page.wait_for_selector("#register-status.wrong")
    assert "wall.png" in await page.inner_text("#register-status")
    assert page.complaints == []
