"""From photos that the model was unsure of to labels for a retraining: decided, kept and fetched."""

from functools import partial
from pathlib import Path

from functions.decisions.classes import NEITHER
from loading_bay.model.labels import fetch, read_labels
from loading_bay.operations.review import decide
from loading_bay.stack.addresses import Address
from loading_bay.stack.labels import PREFIX

from .bay import Bay, picture, wait_for


def kept(bay: Bay, key: str) -> bool:
    return bool(bay.outcome(key).label_etag)


def test_a_retraining_learns_peoples_decisions(bay: Bay, tmp_path: Path) -> None:
    answers = ["bicycle", "motorcycle", NEITHER] * 2
    uploaded = [picture("grey", "PNG", size=(90, 60 + number)) for number in range(len(answers))]
    keys = [bay.upload(body, f"loop/{number}.png") for number, body in enumerate(uploaded)]
    for key, answer in zip(keys, answers, strict=True):
        wait_for(partial(bay.waits, key))
        decide(bay.stack.deployed, key, answer, "ana")
    for key in keys:
        wait_for(partial(kept, bay, key))

    fetch(bay.s3, Address(bay.bucket, PREFIX), tmp_path)

    for answer in set(answers):
        fetched = {path.read_bytes() for path in (tmp_path / answer).iterdir()}
        assert {body for body, given in zip(uploaded, answers, strict=True) if given == answer} <= fetched
    labels = read_labels(tmp_path, ["bicycle", "motorcycle"])
    assert {photo.label for photo in [*labels.learned, *labels.held_out]} == {"bicycle", "motorcycle"}
    assert {photo.label for photo in [*labels.learned_outliers, *labels.held_out_outliers]} == {NEITHER}
