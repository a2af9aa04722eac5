"""Photos match the picture in a browser within three levels of 255, or differ for a known reason.

With `FUZZ_EXAMPLES` the whole family of photos is compared, otherwise a part of it.
"""

import base64
import os
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import sync_playwright

from functions.photo.errors import UnreadablePhoto
from functions.photo.image import upright
from tests.fuzz.family import Member, broken_off, coloured, sample, unchanged

pytestmark = pytest.mark.long

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "150"))
SIDE = 64
LEVELS = 3
SHOW = """async (data) => {
  const image = new Image();
  image.src = URL.createObjectURL(new Blob([Uint8Array.from(atob(data), (each) => each.charCodeAt(0))]));
  try { await image.decode(); } catch { return null; }
  const [width, height] = [image.naturalWidth, image.naturalHeight];
  const context = new OffscreenCanvas(width, height).getContext("2d");
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.drawImage(image, 0, 0);
  const pixels = context.getImageData(0, 0, width, height).data;
  let text = "";
  for (let each = 0; each < pixels.length; each += 4) text += String.fromCharCode(...pixels.slice(each, each + 3));
  return [width, height, btoa(text)];
}"""
# Why a photo may differ from Chromium's picture: parts of its name, and the reason.
REASONS = {
    ("JPEG", "LONG"): "Chromium reads only orientations of type SHORT; cameras and Pillow also know LONG",
    ("WebP", "orientation"): "Chromium does not turn a WebP; Pillow does",
    ("AVIF", "aperture"): "Chromium crops only at the top left; the standard, and libheif in a HEIC, anywhere",
    ("whole", "no end"): "Chromium leaves the last row of blocks of a JPEG without an end mark white",
    ("whole", "zeros"): "as above",
    ("whole", "next"): "Chromium cannot show a progressive JPEG that is followed by the beginning of another",
}
Show = Callable[[bytes], Image.Image | None]


@pytest.fixture(scope="module")
def show(chromium_path: str) -> Iterator[Show]:
    """Return a function that returns Chromium's picture of a file, on white."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path, args=["--force-color-profile=srgb"])
        page = browser.new_page()

        def show(data: bytes) -> Image.Image | None:
            shown = page.evaluate(SHOW, base64.b64encode(data).decode())
            return Image.frombytes("RGB", (shown[0], shown[1]), base64.b64decode(shown[2])) if shown else None

        yield show
        browser.close()


def difference(member: Member, show: Show) -> float:
    """Return the mean difference of a photo from a browser's picture, in levels of 255; 255 if of another shape."""
    picture, ours = show(member.data), upright(member.data, longest_side=SIDE, max_pixels=1_000_000).image
    assert picture is not None
    reduced = picture.copy()
    reduced.thumbnail((SIDE, SIDE), Image.Resampling.BICUBIC)
    if reduced.size != ours.size:
        return 255
    return float(np.abs(np.asarray(reduced).astype(int) - np.asarray(ours)).mean())


def reason(member: Member) -> str:
    return next((why for parts, why in REASONS.items() if all(part in member.name for part in parts)), "")


def test_photos_look_like_in_a_browser(show: Show) -> None:
    heic = [member for member in unchanged() if member.name.startswith("HEIC")]  # Chromium does not show it
    members = [*coloured(), *(member for member in sample(unchanged(), EXAMPLES) if member not in heic)]

    differing = {member.name: found for member in members if (found := difference(member, show)) > LEVELS}

    assert {name: found for name, found in differing.items() if not reason(Member(name, b""))} == {}


def test_truncated_jpegs_look_like_in_a_browser_or_are_refused(show: Show) -> None:
    for member, is_whole in broken_off():
        assert show(member.data) is not None
        if is_whole:
            assert difference(member, show) <= LEVELS or reason(member), member.name
        else:
            with pytest.raises(UnreadablePhoto):
                upright(member.data, longest_side=SIDE, max_pixels=1_000_000)
