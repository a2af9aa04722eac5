"""The page in a real browser: it runs and fetches nothing, fits a phone, and has two themes."""

import json
import os
import shutil
from pathlib import Path
from subprocess import run

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from docs.pictures import QUIET, SHOTS
from docs.pictures import main as take_pictures
from loading_bay.cli.main import main
from tests.unit.captures import baseline, lines, photo, place, record, write

pytestmark = pytest.mark.usefixtures("chromium_path")

POISON = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
# Measures the page from outside, in a frame: its width, and elements that are wider.
MEASURE = """
<title>waiting</title><iframe style="border:0;width:{width}px;height:900px" srcdoc="{page}"></iframe>
<script>
onload = () => {{
  const inner = frames[0].document, edge = {width} + 1;
  const scrolled = (each) => each.closest('.scroll');
  const wide = [...inner.body.querySelectorAll('*')].filter(
    (each) => each.getBoundingClientRect().right > edge && !scrolled(each) && !each.closest('svg'));
  document.title = JSON.stringify({{
    width: inner.documentElement.scrollWidth,
    wide: wide.map((each) => each.tagName + '.' + each.className).slice(0, 5),
    title: inner.title,
    drawn: [...inner.querySelectorAll('figure svg')].filter((each) => each.getBoundingClientRect().width > 0).length,
    smallest: Math.min(...[...inner.querySelectorAll('figure svg text')].map(
      (each) => each.getBoundingClientRect().height).filter((each) => each > 0)),
  }});
}};
</script>
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a report over poisoned and ordinary captures, with decisions."""
    folder = tmp_path_factory.mktemp("page")
    chance = np.random.default_rng(0)
    scores = [[float(each), 1 - float(each)] for each in chance.beta(0.2, 0.2, size=300)]
    records = [
        record(each, time=f"2026-11-20T04:{k // 5:02}:00Z", body=photo((k % 256, 90, 160)))
        for k, each in enumerate(scores)
    ]
    records.append(record((0.5, 0.5), event_id=POISON, body=POISON.encode()))
    write(folder, f"captures/{place()}", lines(*records, POISON.encode(), record(request_type=POISON)))
    write(folder, f"captures/{place(variant=POISON.replace('/', '|'))}", lines(record()))
    before = write(folder, "baseline.json", baseline(scores))
    decisions = [
        {
            "photo": f"s3://inbox/{k}.jpg#1",
            "status": ("ROUTED", "REVIEW", "REJECTED", "FAILED", "CLAIMED")[k % 5],
            "uploaded_at": f"2026-11-20T04:{k:02}:00.000Z",
            "claimed_at": f"2026-11-20T04:{k:02}:01.000Z",
            "decided_at": f"2026-11-20T04:{k:02}:0{2 + k % 7}.000Z",
        }
        for k in range(60)
    ]
    items = write(folder, "decisions.json", json.dumps(decisions).encode())
    command = ["report", str(folder / "captures"), "--output", str(folder / "out")]
    result = CliRunner().invoke(main, [*command, "--baseline", str(before), "--decisions", str(items)])
    assert result.exit_code == 0, result.output
    return folder / "out/report.html"


def chromium(profile: Path, *options: str) -> str:
    command = ["chromium", *QUIET, f"--user-data-dir={profile / 'profile'}", *options]
    return run(command, check=True, capture_output=True, text=True, timeout=120).stdout


def screenshot(page: Path, folder: Path, *options: str) -> Image.Image:
    picture = folder / "picture.png"
    chromium(folder, "--window-size=1200,1500", f"--screenshot={picture}", *options, page.as_uri())
    return Image.open(picture).convert("L")


def test_no_script_of_a_capture_runs(page: Path, tmp_path: Path) -> None:
    title = chromium(tmp_path, "--dump-dom", page.as_uri()).partition("<title>")[2].partition("</title>")[0]

    assert title == "What has the model been doing?"


def test_a_script_would_not_run_even_if_one_got_in(page: Path, tmp_path: Path) -> None:
    """The second line of defence alone: the same page with an unescaped script in its body."""
    broken = write(tmp_path, "broken.html", page.read_bytes().replace(b"</main>", POISON.encode() + b"</main>"))
    without = write(tmp_path, "without.html", broken.read_bytes().replace(b"Content-Security-Policy", b"x"))

    assert "<title>owned" not in chromium(tmp_path, "--dump-dom", broken.as_uri())
    assert "<title>owned" in chromium(tmp_path, "--dump-dom", without.as_uri())


@pytest.mark.parametrize("width", [360, 1200], ids=["narrow", "wide"])
def test_the_page_fits_its_window_with_readable_plots(page: Path, tmp_path: Path, width: int) -> None:
    html = page.read_text(encoding="utf-8").replace("&", "&amp;").replace('"', "&quot;")
    frame = write(tmp_path, "frame.html", MEASURE.format(width=width, page=html).encode())

    title = chromium(tmp_path, "--dump-dom", frame.as_uri()).partition("<title>")[2].partition("</title>")[0]

    found = json.loads(title.replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">"))
    assert found["title"] == "What has the model been doing?"
    assert found["width"] <= width
    assert found["wide"] == []
    assert found["drawn"] == 6  # each plot in one of its two shapes
    assert found["smallest"] >= 9


def test_light_and_dark_follow_the_system(page: Path, tmp_path: Path) -> None:
    light = screenshot(page, tmp_path, "--blink-settings=preferredColorScheme=1")
    dark = screenshot(page, tmp_path, "--blink-settings=preferredColorScheme=0")

    assert np.median(np.asarray(light)) > 200
    assert np.median(np.asarray(dark)) < 50


@pytest.mark.parametrize(("chosen", "system", "is_dark"), [("dark", 1, True), ("light", 0, False)])
def test_the_reader_can_choose_another_theme(
    page: Path, tmp_path: Path, chosen: str, system: int, is_dark: bool
) -> None:
    html = page.read_text(encoding="utf-8")
    assert f'id="{chosen}">' in html
    html = html.replace('id="system" checked>', 'id="system">').replace(f'id="{chosen}">', f'id="{chosen}" checked>')
    chosen_page = write(tmp_path, "chosen.html", html.encode())

    picture = screenshot(chosen_page, tmp_path, f"--blink-settings=preferredColorScheme={system}")

    assert bool(np.median(np.asarray(picture)) < 100) is is_dark


def test_print_is_light_paper_in_full_width(page: Path, tmp_path: Path) -> None:
    paper = tmp_path / "page.pdf"
    dark = "--blink-settings=preferredColorScheme=0"
    chromium(tmp_path, dark, "--no-pdf-header-footer", f"--print-to-pdf={paper}", page.as_uri())
    if shutil.which("pdftoppm") is None and "CI" not in os.environ:
        pytest.skip("pdftoppm is not installed (poppler-utils)")
    run(["pdftoppm", "-r", "40", "-gray", "-png", str(paper), str(tmp_path / "paper")], check=True)

    sheets = [np.asarray(Image.open(each)) for each in sorted(tmp_path.glob("paper-*.png"))]
    assert 2 <= len(sheets) <= 10
    assert all(np.median(sheet) > 240 for sheet in sheets)
    assert all((sheet[:, -8:] > 240).all() for sheet in sheets)  # nothing extends beyond the edge of the paper


def test_the_page_cannot_fetch_anything_even_with_a_script(page: Path, tmp_path: Path) -> None:
    log = tmp_path / "requests.json"
    asking = page.read_bytes().replace(b"</main>", b'<img src="http://127.0.0.1:9/asked"></main>')
    broken = write(tmp_path, "broken.html", asking)
    without = write(tmp_path, "without.html", asking.replace(b"Content-Security-Policy", b"x"))

    chromium(tmp_path, f"--log-net-log={log}", "--dump-dom", broken.as_uri())
    assert "127.0.0.1:9" not in log.read_text()
    chromium(tmp_path, f"--log-net-log={log}", "--dump-dom", without.as_uri())
    assert "127.0.0.1:9" in log.read_text()


def test_pictures_for_the_readme_are_made(page: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(take_pictures, [str(page), str(tmp_path)])

    assert result.exit_code == 0
    for name, (width, height, _) in SHOTS.items():
        assert Image.open(tmp_path / f"{name}.png").size == (width, height)
