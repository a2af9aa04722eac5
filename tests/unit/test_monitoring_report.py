"""The report from the command line: its files and its text, which no capture can harm."""

import io
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from arro3.io import read_parquet
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from functions.decisions.decision import Box
from functions.photo.decoder import Decoder
from loading_bay.cli.main import main
from loading_bay.report import gallery
from loading_bay.report.gallery import Gallery, choose
from loading_bay.report.predictions import Predictions
from loading_bay.stack.template import ROOT

from .captures import baseline, lines, photo, place, record, write

pytestmark = pytest.mark.usefixtures("undrawn")
SURE = [[0.99, 0.01], [0.02, 0.98]] * 100


def report(source: Path, *options: str) -> Result:
    return CliRunner().invoke(
        main, ["report", str(source), "--output", str(source.parent / "out"), "--no-baseline", *options]
    )


def metrics(source: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((source.parent / "out/metrics.json").read_text())
    return found


def table(output: Path) -> list[dict[str, Any]]:
    read = read_parquet(output / "predictions.parquet").read_all()
    return [{name: read[name][k].as_py() for name in read.column_names} for k in range(len(read))]


def page(source: Path) -> str:
    return (source.parent / "out/report.html").read_text(encoding="utf-8")


class Elements(HTMLParser):
    """Collects the elements of the page as a browser would: (tag, attributes)."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def captures(folder: Path) -> Path:
    folder /= "captures"
    write(folder, place(name="a.jsonl"), lines(record((0.97, 0.03)), record((0.3, 0.7)), b"{broken"))
    write(folder, place(name="b.jsonl", variant="candidate"), lines(record((0.55, 0.45), event_id="the-doubtful-one")))
    return folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return captures(tmp_path)


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source of a report made without options; tests only read it."""
    source = captures(tmp_path_factory.mktemp("reported"))
    assert report(source).exit_code == 0
    return source


def test_the_report_has_page_figures_table_plots_and_skipped_records(source: Path) -> None:
    result = report(source)

    assert result.exit_code == 0
    assert "3 predictions from 4 records, 67\N{NO-BREAK SPACE}% below 0.9" in result.output
    assert "1 not json" in result.output
    out = source.parent / "out"
    assert {each.name for each in (out / "plots").iterdir()} == {
        "confidence.svg",
        "review-share.svg",
        "scores.svg",
        "class-balance.svg",
    }
    skipped = [json.loads(line) for line in (out / "skipped.jsonl").read_text().splitlines()]
    assert [(each["file"], each["line"], each["reason"]) for each in skipped] == [
        (place(name="a.jsonl"), 3, "not_json")
    ]
    assert "the-doubtful-one" in page(source)


def test_the_figures_are_those_of_the_captures(reported: Path) -> None:
    found = metrics(reported)

    assert (found["records"], found["ids"], found["predictions"], found["skipped"]) == (4, 3, 3, {"not_json": 1})
    assert (found["below_threshold"]["count"], found["below_threshold"]["of"]) == (2, 3)
    assert found["confidence"]["p50"] == 0.7
    assert [(each["name"], each["predicted"]["count"]) for each in found["classes"]] == [
        ("bicycle", 2),
        ("motorcycle", 1),
    ]
    assert [(each["variant"], each["median_confidence"]) for each in found["variants"]] == [
        ("AllTraffic", pytest.approx(0.835)),
        ("candidate", 0.55),
    ]
    assert sum(each["below_threshold"]["of"] for each in found["over_time"]) == 3


def test_the_table_names_classes_and_places_in_utc(reported: Path) -> None:
    row = next(row for row in table(reported.parent / "out") if row["event_id"] == "the-doubtful-one")
    assert (row["vehicle"], row["p_motorcycle"], row["variant"], row["line"]) == ("bicycle", 0.45, "candidate", 1)
    assert row["file"] == place(name="b.jsonl", variant="candidate")
    assert f"{row['time']:%Y-%m-%dT%H:%M:%S%z}" == "2026-11-20T04:10:00+0000"


def test_the_page_says_when_the_predictions_were_made(reported: Path, tmp_path: Path) -> None:
    assert "3 predictions at 2026-11-20 04:10." in page(reported)
    source = tmp_path / "captures"
    write(source, place(), lines(record(), record(time="2026-11-20T04:12:00Z")))
    assert report(source).exit_code == 0
    assert "2 predictions between 2026-11-20 04:10 and 2026-11-20 04:12." in page(source)


def test_the_threshold_is_an_option(source: Path) -> None:
    assert report(source, "--threshold", "0.6").exit_code == 0

    assert metrics(source)["below_threshold"]["count"] == 1


def test_a_score_at_the_threshold_is_accepted(tmp_path: Path) -> None:
    source = tmp_path / "captures"
    write(source, place(), lines(record((0.9, 0.1)), record((0.89, 0.11))))

    report(source)

    found = metrics(source)
    counts = [
        found["below_threshold"],
        found["over_time"][0]["below_threshold"],
        found["variants"][0]["below_threshold"],
    ]
    assert [each["count"] for each in counts] == [1, 1, 1]


def test_three_classes(tmp_path: Path) -> None:
    source = tmp_path / "captures"
    chance = np.random.default_rng(0)
    write(source, place(), lines(*(record(each.tolist()) for each in chance.dirichlet([0.3] * 3, size=60))))
    before = write(tmp_path, "base.json", baseline(chance.dirichlet([0.3] * 3, size=60).tolist(), ("a", "b", "c")))

    result = CliRunner().invoke(
        main,
        ["report", str(source), "--output", str(tmp_path / "out"), "--classes", "a,b,c", "--baseline", str(before)],
    )

    assert result.exit_code == 0
    assert sum(each["predicted"]["count"] for each in metrics(source)["classes"]) == 60
    assert len(metrics(source)["checks"]) == 10
    assert "Most confident: c" in page(source)


def test_forty_captures_are_too_few_and_the_page_says_so(tmp_path: Path) -> None:
    source = tmp_path / "captures"
    write(source, place(), lines(*(record(each) for each in SURE[:40])))
    before = write(tmp_path, "base.json", baseline(SURE))

    result = CliRunner().invoke(
        main, ["report", str(source), "--output", str(tmp_path / "out"), "--baseline", str(before)]
    )

    assert "against the baseline: too few records to say" in result.output
    assert metrics(source)["verdict"] == "too few records to say"
    assert "too few records to say" in page(source)
    assert "✓ fine" not in page(source)


def test_the_baseline_that_ships_is_named_by_its_path_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "captures"
    write(source, place(), lines(record(SURE[0])))
    monkeypatch.chdir(ROOT)

    result = CliRunner().invoke(main, ["report", str(source), "--output", str(tmp_path / "out")])

    assert result.exit_code == 0, result.output
    assert "Baseline: training/model/baseline.json" in page(source)


def test_expected_shares_replace_those_of_the_baseline(tmp_path: Path) -> None:
    source = tmp_path / "captures"
    write(
        source, place(), lines(*(record((0.99, 0.01)) for _ in range(90)), *(record((0.01, 0.99)) for _ in range(10)))
    )

    assert report(source, "--expected-shares", "0.5,0.5").exit_code == 0
    assert metrics(source)["verdict"] == "look"
    assert report(source, "--expected-shares", "0.9,0.1").exit_code == 0
    assert metrics(source)["verdict"] != "look"


def test_a_report_without_usable_records_gives_the_reasons(tmp_path: Path) -> None:
    source = tmp_path / "captures"
    write(source, place(), lines(record(request_type="text/csv")))

    result = report(source)

    assert result.exit_code == 0
    assert "No predictions to report on" in page(source)
    assert "not an image" in page(source)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--baseline", "nowhere.json"], "is not a baseline"),
        (["--decisions", "nowhere.json"], "is not a list of decisions"),
        (["--decisions", "a.json", "--table", "b"], "give SOURCE with --table or --decisions"),
        (["--local"], "give SOURCE or --local, not both"),
        (["--classes", "bicycle"], "two or more"),
        (["--classes", "a,a"], "two or more"),
        (["--expected-shares", "0.5,0.4"], "sum to 1"),
        (["--expected-shares", "1e-3,0.4,0.599"], "one number for each"),
        (["--since", "soon"], "neither a time"),
        (["--since", "2026-11-20", "--until", "2026-11-19"], "must be before"),
    ],
)
def test_a_user_error_is_one_line_and_not_a_traceback(source: Path, options: list[str], message: str) -> None:
    result = CliRunner().invoke(main, ["report", str(source), "--output", str(source.parent / "out"), *options])

    assert result.exit_code in {1, 2}
    assert message in result.output
    assert isinstance(result.exception, SystemExit)


def test_a_baseline_of_other_classes_is_refused(source: Path) -> None:
    before = write(source.parent, "base.json", baseline(SURE, ("cat", "dog")))

    command = ["report", str(source), "--classes", "bicycle,motorcycle", "--baseline", str(before)]
    result = CliRunner().invoke(main, command)

    assert result.exit_code == 1
    assert "for the classes cat,dog" in result.output


def test_classes_and_threshold_are_those_of_the_baseline(source: Path) -> None:
    before = json.loads(baseline(SURE, ("cat", "dog"))) | {"threshold": 0.6}
    file = write(source.parent, "base.json", json.dumps(before).encode())

    command = ["report", str(source), "--output", str(source.parent / "out"), "--baseline", str(file)]
    assert CliRunner().invoke(main, command).exit_code == 0

    assert metrics(source)["class_names"] == ["cat", "dog"]
    assert (metrics(source)["threshold"], metrics(source)["below_threshold"]["count"]) == (0.6, 1)


def test_the_window_can_be_an_age_or_a_time(source: Path) -> None:
    assert report(source, "--since", "2026-11-20T04:00", "--until", "2026-11-20T07:00+02:00").exit_code == 0
    assert metrics(source)["predictions"] == 3
    assert report(source, "--until", "9999d").exit_code == 0
    assert metrics(source)["predictions"] == 0


DECISIONS: list[Any] = [
    {
        "photo": "s3://inbox/uploads/a.jpg#1",
        "status": "ROUTED",
        "vehicle": "bicycle",
        "confidence": 0.97,
        "uploaded_at": "2026-11-20T04:00:00.000Z",
        "claimed_at": "2026-11-20T04:00:01.000Z",
        "decided_at": "2026-11-20T04:00:02.500Z",
    },
    {
        "photo": "s3://inbox/uploads/b.jpg#2",
        "status": "REVIEW",
        "claimed_at": "2026-11-20T04:01:00.000Z",
        "decided_at": "2026-11-20T04:01:02.000Z",
    },
    {
        "photo": "s3://inbox/uploads/c.jpg#3",
        "status": "REVIEW",
        "uploaded_at": "2026-11-20T04:05:00.000Z",
        "claimed_at": "2026-11-20T04:02:00.000Z",
        "decided_at": "2026-11-20T04:02:02.000Z",
    },
    {"photo": "s3://inbox/uploads/d.jpg#4", "status": "CLAIMED", "claimed_at": "2026-11-20T04:03:00.000Z"},
    {"photo": "s3://inbox/uploads/e.jpg#5", "status": "LOST", "claimed_at": "2026-11-20T04:03:00.000Z"},
    "no item",
]


def test_decisions_give_outcomes_review_rate_and_latency(source: Path) -> None:
    file = write(source.parent, "decisions.json", json.dumps(DECISIONS).encode())

    assert report(source, "--decisions", str(file)).exit_code == 0

    found = metrics(source)["decisions"]
    assert found["counts"] == {"ROUTED": 1, "REVIEW": 2, "REJECTED": 0, "FAILED": 0, "CLAIMED": 1}
    assert found["review_rate"]["value"] == pytest.approx(2 / 3)
    assert found["oldest_in_review"] == "2026-11-20T04:01:00Z"
    assert (found["latency"]["n"], found["latency"]["longest"], found["latency"]["unusable"]) == (1, 2.5, 2)
    assert [each["photo"] for each in found["skipped"]] == ["s3://inbox/uploads/e.jpg#5", "None"]
    assert {"outcomes.svg", "latency.svg"} <= {each.name for each in (source.parent / "out/plots").iterdir()}
    assert "2.5 s" in page(source)


def test_a_picture_is_named_by_the_key_of_its_photo(tmp_path: Path) -> None:
    source = tmp_path / "captures"
    named = record((0.6, 0.4), event_id="traced")
    named["eventMetadata"]["inferenceId"] = "6f3c1d2e-claim"
    write(source, place(), lines(named, record((0.7, 0.3), event_id="untraced")))
    item = DECISIONS[1] | {"photo": "s3://inbox/uploads/ana/1 b#c.jpg#0123", "claim": "6f3c1d2e-claim"}
    file = write(tmp_path, "decisions.json", json.dumps([item]).encode())

    assert report(source, "--decisions", str(file)).exit_code == 0

    assert ">uploads/ana/1 b#c.jpg</p>" in page(source)
    assert ">traced</p>" not in page(source)
    assert ">untraced</p>" in page(source)
    assert [row["inference_id"] for row in table(tmp_path / "out")] == ["6f3c1d2e-claim", None]


def reviewed(k: int, guess: str, decided: str | None, day: int) -> dict[str, Any]:
    other = {"bicycle": "motorcycle", "motorcycle": "bicycle"}[guess]
    return {
        "photo": f"s3://inbox/uploads/{k}.jpg#{k}",
        "status": "ROUTED" if decided else "REJECTED",
        "claimed_at": "2026-11-20T04:00:00.000Z",
        "probabilities": {guess: 0.7, other: 0.3},
        "reviewed_by": "ana",
        "reviewed_at": f"2026-11-{day}T08:00:00.000Z",
    } | ({"vehicle": decided} if decided else {})


def test_agreement_is_shown_by_the_model_s_guess_and_over_time(source: Path) -> None:
    decided = [("bicycle", "bicycle", 20), ("bicycle", "motorcycle", 20), ("motorcycle", "motorcycle", 24)]
    items = [reviewed(k, *each) for k, each in enumerate(decided)] + [reviewed(9, "motorcycle", None, 24)]
    file = write(source.parent, "decisions.json", json.dumps(items).encode())

    assert report(source, "--decisions", str(file)).exit_code == 0

    found = metrics(source)["decisions"]["agreement"]
    assert {name: (each["count"], each["of"]) for name, each in found["by_guess"].items()} == {
        "bicycle": (1, 2),
        "motorcycle": (1, 2),
    }
    assert [(each["start"][:10], each["agreed"]["of"]) for each in found["over_time"]] == [
        ("2026-11-20", 2),
        ("2026-11-24", 2),
    ]
    assert found["labels"] == {"bicycle": 1, "motorcycle": 2, "neither": 1}
    assert found["missing"] == {"bicycle": 74, "motorcycle": 73}
    assert "74 more of bicycle" in page(source)
    assert (source.parent / "out/plots/agreement.svg").exists()


def test_the_page_says_when_there_are_enough_labels_to_retrain(source: Path) -> None:
    items = [reviewed(k, "bicycle", ("bicycle", "motorcycle")[k % 2], 20) for k in range(150)]
    file = write(source.parent, "decisions.json", json.dumps(items).encode())

    assert report(source, "--decisions", str(file)).exit_code == 0

    assert metrics(source)["decisions"]["agreement"]["missing"] == {}
    assert "enough new labels to retrain" in page(source)


def test_decisions_keep_to_the_window(source: Path) -> None:
    file = write(source.parent, "decisions.json", json.dumps(DECISIONS).encode())

    report(source, "--decisions", str(file), "--since", "2026-11-20T04:01", "--until", "2026-11-20T04:02")

    assert metrics(source)["decisions"]["photos"] == 1


def test_a_report_without_decisions_works(source: Path) -> None:
    file = write(source.parent, "decisions.json", b"[]")

    assert report(source, "--decisions", str(file)).exit_code == 0
    assert "does not contain photos from this window" in page(source)


POISON = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"


@pytest.mark.drawn
def test_a_poisoned_capture_cannot_put_an_element_into_the_page(tmp_path: Path) -> None:
    source = tmp_path / "captures"
    drawing = f'<svg xmlns="http://www.w3.org/2000/svg">{POISON}</svg>'.encode()
    write(
        source,
        f"{POISON.replace('/', '&#47;')}/<b>variant/2026/11/20/04/{'a'}.jsonl",
        lines(
            record((0.6, 0.4), event_id=POISON, body=drawing),
            record((0.6, 0.4), request_type=POISON),
            record(POISON),
            record((0.61, 0.39), event_id="a\x1b[31m\x00\u202eb"),
        ),
    )
    decisions = [DECISIONS[0], DECISIONS[1], {"photo": POISON, "status": POISON}]
    file = write(tmp_path, "decisions.json", json.dumps(decisions).encode())

    assert report(source, "--decisions", str(file)).exit_code == 0

    elements = Elements(page(source)).found
    assert "document.title" in page(source)  # it is shown, as text
    assert not [tag for tag, _ in elements if tag in {"script", "iframe", "object", "embed", "link", "b", "base"}]
    assert not [name for _, attributes in elements for name in attributes if name.startswith("on")]
    images = [attributes["src"] or "" for tag, attributes in elements if tag == "img"]
    assert images
    assert all(each.startswith("data:image/png;base64,") for each in images)
    assert not re.search("[\x00\x1b\u202e]", page(source))


def test_the_page_asks_for_nothing(reported: Path) -> None:
    elements = Elements(page(reported)).found
    policy = next(
        attributes for tag, attributes in elements if attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert str(policy["content"]).startswith("default-src 'none'; img-src data:;")
    fetched = [
        value
        for _, attributes in elements
        for name, value in attributes.items()
        if name in {"src", "href", "xlink:href", "action", "data"} and value and not value.startswith(("#", "data:"))
    ]
    assert fetched == []
    assert "url(http" not in page(reported)
    assert "@import" not in page(reported)


def test_ids_in_the_page_are_unique_across_plots(reported: Path) -> None:
    ids = [attributes["id"] for _, attributes in Elements(page(reported)).found if attributes.get("id")]
    assert len(ids) == len(set(ids))


@pytest.mark.drawn
def test_names_with_dollars_and_control_codes_are_drawn_as_they_are(tmp_path: Path) -> None:
    source = tmp_path / "captures"
    write(source, place(), lines(record(), record((0.2, 0.8))))

    assert report(source, "--classes", "$\\frac{$,<&\x07").exit_code == 0

    for plot in (tmp_path / "out/plots").iterdir():
        ElementTree.parse(plot)  # noqa: S314 - this project's file; a broken one raises here
    assert "$\\frac{$" in (tmp_path / "out/plots/scores.svg").read_text(encoding="utf-8")


def test_plots_have_both_sets_of_colours_and_no_other_colour(reported: Path) -> None:
    for plot in (reported.parent / "out/plots").iterdir():
        root = ElementTree.parse(plot).getroot()  # noqa: S314 - this project's file
        styles = " ".join(each.get("style", "") for each in root.iter())
        assert "var(--class-0)" in styles
        assert not re.search("#[0-9a-f]{6}", styles)
        assert "prefers-color-scheme:dark" in plot.read_text(encoding="utf-8")


def test_the_gallery_shows_the_doubtful_first_and_a_repeated_picture_once(tmp_path: Path) -> None:
    source = tmp_path / "captures"
    same = [record((0.95, 0.05)) for _ in range(30)]
    write(
        source,
        place(),
        lines(*same, record((0.51, 0.49), event_id="doubtful"), record((0.999, 0.001), event_id="sure")),
    )

    report(source)

    html = page(source)
    least, most = html.split("<h3>Most confident: bicycle</h3>")
    assert least.index("doubtful") < least.index("seen 30 times")
    assert html.count("seen 30 times") == 2  # once among the least, once among the most confident
    assert most.index(">sure<") < most.index("seen 30 times")


def test_a_photo_below_the_threshold_is_not_among_the_most_confident(tmp_path: Path) -> None:
    source = tmp_path / "captures"
    write(source, place(), lines(record((0.555, 0.445), event_id="unsure"), record((0.05, 0.95), event_id="sure")))

    report(source)

    assert "Most confident: bicycle" not in page(source)
    assert "unsure" not in page(source).split("<h3>Most confident: motorcycle</h3>")[1]


@pytest.mark.drawn
def test_captures_of_a_second_have_an_axis_of_whole_seconds(tmp_path: Path) -> None:
    source = tmp_path / "captures"
    times = ("2026-11-20T04:10:50Z", "2026-11-20T04:10:51Z")
    write(source, place(), lines(*(record(time=time) for time in times)))

    report(source)

    drawn = (tmp_path / "out/plots/confidence.svg").read_text(encoding="utf-8")
    assert not re.findall(r">\d\d\.\d<", drawn)
    assert "time (UTC)" in drawn


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    with Decoder(max_pixels=gallery.LARGEST_PIXELS) as decoder:
        yield decoder


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no picture",
        photo()[:60],
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"\x89PNG\r\n\x1a\n" + b"\x00" * 100,
    ],
)
def test_a_file_that_is_not_a_photo_has_no_thumbnail(decoder: Decoder, body: bytes) -> None:
    assert gallery.thumbnail(decoder, body) is None


@pytest.mark.parametrize("format", ["GIF", "TIFF", "PCX", "BMP"])
def test_other_decoders_are_not_tried(decoder: Decoder, format: str) -> None:
    encoded = io.BytesIO()
    Image.new("RGB", (32, 32)).save(encoded, format)

    assert gallery.thumbnail(decoder, encoded.getvalue()) is None


@pytest.mark.parametrize("side", [3_000, 12_000])
def test_a_huge_picture_is_not_unpacked(decoder: Decoder, side: int) -> None:
    encoded = io.BytesIO()
    Image.new("1", (side, side)).save(encoded, "PNG")

    assert len(encoded.getvalue()) < 100_000
    assert gallery.thumbnail(decoder, encoded.getvalue()) is None


def test_a_thumbnail_has_no_metadata(decoder: Decoder) -> None:
    plain, loaded = io.BytesIO(), io.BytesIO()
    picture = Image.frombytes("RGB", (32, 32), bytes(range(256)) * 12)
    picture.save(plain, "PNG")
    picture.save(loaded, "PNG", icc_profile=b"profile" * 10_000, exif=b"Exif" * 1_000, transparency=(9, 9, 9))

    assert gallery.thumbnail(decoder, loaded.getvalue()) == gallery.thumbnail(decoder, plain.getvalue())


def test_a_frame_shows_where_the_model_looked(decoder: Decoder) -> None:
    body = io.BytesIO()
    Image.new("RGB", (400, 200), "blue").save(body, "PNG")

    framed = gallery.thumbnail(decoder, body.getvalue(), Box(0.25, 0.5, 0.75, 1.0))

    pixels = np.asarray(Image.open(io.BytesIO(framed or b"")).convert("RGB")).astype(int)
    rows, columns = np.nonzero(pixels[..., 0] > 128)
    height, width = pixels.shape[:2]
    edges = [columns.min() / width, rows.min() / height, (columns.max() + 1) / width, (rows.max() + 1) / height]
    assert edges == pytest.approx([0.25, 0.5, 0.75, 1.0], abs=0.02)
    assert (pixels[height * 3 // 4, width // 2] == [0, 0, 255]).all()


@settings(deadline=None)
@given(data=st.data(), format=st.sampled_from(["PNG", "JPEG"]))
def test_no_damaged_picture_is_fatal(decoder: Decoder, data: st.DataObject, format: str) -> None:
    encoded = io.BytesIO()
    Image.frombytes("RGB", (32, 32), bytes(range(256)) * 12).save(encoded, format)
    body = bytearray(encoded.getvalue())
    for position in data.draw(st.lists(st.integers(0, len(body) - 1), max_size=8)):
        body[position] = data.draw(st.integers(0, 255))

    found = gallery.thumbnail(decoder, bytes(body[: data.draw(st.integers(0, len(body)))]))

    assert found is None or Image.open(io.BytesIO(found)).size <= (160, 160)


def test_a_capture_file_that_vanishes_before_the_gallery_loses_only_the_picture(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def vanishing(predictions: Predictions, *given: Any) -> Gallery:
        for file in predictions.files:
            Path(file.path).unlink()
        return choose(predictions, *given)

    monkeypatch.setattr("loading_bay.report.report.choose", vanishing)

    assert report(source).exit_code == 0
    assert metrics(source)["predictions"] == 3
    assert page(source).count("no picture in the capture") == 3 + 1  # one of them was accepted


def test_a_capture_without_a_picture_is_shown_without_one(tmp_path: Path) -> None:
    source = tmp_path / "captures"
    write(source, place(), lines(record(body=b"not a picture")))

    assert report(source).exit_code == 0
    assert "no picture in the capture" in page(source)


def test_a_second_report_over_the_same_captures_has_the_same_figures(source: Path, reported: Path) -> None:
    report(source)

    assert metrics(source) | {"source": ""} == metrics(reported) | {"source": ""}
