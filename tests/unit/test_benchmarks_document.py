"""The pages show the figures that are kept, and nothing else between their markers."""

import json
from pathlib import Path

import pytest

from benchmarks.document import PAGES, RECORD, written


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_shows_the_figures_that_are_kept(page: Path) -> None:
    text = page.read_text()

    assert "<!-- end -->" in text
    assert written(text) == text, "python -m benchmarks document writes the figures"


def test_another_model_changes_what_a_page_says(tmp_path: Path) -> None:
    record = json.loads(RECORD.read_text())
    record["test"]["accuracy"]["value"] = 0.5
    other = tmp_path / "record.json"
    other.write_text(json.dumps(record))

    assert written("<!-- record test.accuracy -->94.0 %<!-- end -->", record=other) == (
        "<!-- record test.accuracy -->50.0 %<!-- end -->"
    )


def test_a_marker_for_a_figure_that_nobody_keeps_is_refused() -> None:
    with pytest.raises(KeyError):
        written("<!-- record test.charm -->1 %<!-- end -->")
    with pytest.raises(FileNotFoundError):
        written("<!-- table growth -->\n<!-- end -->")


def test_a_table_can_show_some_of_the_rows_that_were_measured() -> None:
    page = written("<!-- table serialize ^JPEG, 12.*MB -->\n<!-- end -->")

    assert [line.split(" | ")[0] for line in page.splitlines() if "ms CPU" in line] == ["| JPEG, 12 megapixels, 1.9 MB"]
