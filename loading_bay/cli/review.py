"""Commands for review: decide photos, export labels, manage who may sign in."""

import getpass
from pathlib import Path

import click

from functions.decisions.decision import timestamp
from loading_bay.operations.review import decide, export_reviewed, reviewers_agreements, waiting_photos
from loading_bay.operations.reviewers import DRIVERS, REVIEWERS, add_reviewer, remove_reviewer
from loading_bay.operations.reviewers import reviewers as list_all_reviewers
from loading_bay.stack.deployed import Deployed

from .commands import Commands, echo_json, json_option, say, with_stack


@click.group(cls=Commands)
def review() -> None:
    """Decide the photos that the model was unsure of."""


@review.command(name="list", examples=["--local"])
@with_stack
@json_option
def list_waiting(deployed: Deployed, as_json: bool) -> None:
    """List the photos that need review, oldest first."""
    waiting = list(waiting_photos(deployed))
    if as_json:
        echo_json(waiting)
        return
    for decision in waiting:
        say(f"{timestamp(decision.claimed_at)}  {decision.key}")
        say(f"    {', '.join(filter(None, (decision.whose, decision.why)))}")
    click.echo(f"{len(waiting)} waiting for review")


@review.command(name="decide", examples=["uploads/driver-7/1.jpg motorcycle", "uploads/driver-7/2.jpg neither"])
@click.argument("photo")
@click.argument("vehicle")
@with_stack
@click.option("--reviewer", default=getpass.getuser, help="The person who decides.  [default: you]")
@json_option
def decide_photo(deployed: Deployed, photo: str, vehicle: str, reviewer: str, as_json: bool) -> None:
    """Decide which VEHICLE a PHOTO shows, or neither.

    PHOTO is its key, or its full name in the decisions table. The outcome is announced like any other.
    """
    decision = decide(deployed, photo, vehicle, reviewer)
    if as_json:
        echo_json(decision)
        return
    outcome = f"goes to bay {decision.place}" if decision.place else "is rejected"
    say(f"{decision.key} {outcome}; the announcement follows shortly")


@review.command(examples=["reviewed --local"])
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@with_stack
@json_option
def export(deployed: Deployed, folder: Path, as_json: bool) -> None:
    """Download the reviewed photos for training.

    Photos go into FOLDER/VEHICLE, or FOLDER/neither.
    """
    labels = list(export_reviewed(deployed, folder))
    missing = [label for label in labels if label.path is None]
    if as_json:
        echo_json([
            {"photo": label.photo, "path": str(label.path) if label.path else None, "why": label.why}
            | {"chosen": label.chosen, "audit_share": label.audit_share}
            for label in labels
        ])  # fmt: skip
        return
    for label in missing:
        say(f"left out: {label.photo}: {label.why}", err=True)
    click.echo(f"{len(labels) - len(missing)} reviewed photos are in {folder}; {len(missing)} left out")


@review.command(examples=["--local"])
@with_stack
@json_option
def agreement(deployed: Deployed, as_json: bool) -> None:
    """List the photos about which two people differ, and how well the reviewers agree.

    Kappa is 1 if two people always agree, and 0 if no more than by chance.
    """
    found = reviewers_agreements(deployed)
    if as_json:
        echo_json(found)
        return
    for decision in found.disputed:
        said = ", ".join(f"{each.answer} ({each.by})" for each in decision.opinions)
        waits = "; waits for a third person" if decision.needs_opinion else ""
        say(f"{decision.key}: {said}; recorded as {decision.answer}{waits}")
    for title, rows in (("pair", found.pairs), ("reviewer", found.reviewers)):
        click.echo(f"{title:<34}{'photos':>8}{'same answer':>22}    kappa")
        for each in rows:
            same = f"{each.same.value:.0%} ({each.same.low:.0%} to {each.same.high:.0%})"
            beyond = f"{each.kappa.value:.2f} ({each.kappa.low:.2f} to {each.kappa.high:.2f})" if each.kappa else ""
            say(f"{', '.join(each.people):<34}{each.same.of:>8}{same:>22}    {beyond or 'too few to say'}")
    click.echo(f"{len(found.disputed)} disputed; intervals are of 95 %")


def _people(group: str, output: str, help: str) -> click.Group:
    """Return the commands that manage who may sign in to a page, whose address is a stack's `output`."""

    @click.group(name=group, cls=Commands, help=help)
    def people() -> None: ...

    name_of = {REVIEWERS: "ana", DRIVERS: "driver-7"}[group]

    @people.command(name="add", examples=[f"{name_of} {name_of}@example.com --local"])
    @click.argument("name")
    @click.argument("email")
    @with_stack
    @json_option
    def add(deployed: Deployed, name: str, email: str, as_json: bool) -> None:
        """Let NAME sign in; Cognito mails a temporary password to EMAIL."""
        added = add_reviewer(deployed, name, email, group)
        if as_json:
            echo_json(added)
            return
        password = f"the password {added.password}" if added.password else f"the password mailed to {email}"
        say(f"{name} can sign in at {deployed.outputs[output]} with {password}")

    @people.command(name="list", examples=["--local"])
    @with_stack
    @json_option
    def list_people(deployed: Deployed, as_json: bool) -> None:
        """List who may sign in."""
        found = list(list_all_reviewers(deployed, group))
        if as_json:
            echo_json(found)
            return
        for each in found:
            say(f"{each.name:<24}{each.email:<40}{each.status}")

    @people.command(name="remove", examples=[f"{name_of} --local"])
    @click.argument("name")
    @with_stack
    def remove(deployed: Deployed, name: str) -> None:
        """Revoke the access of NAME; a running session ends within 15 minutes."""
        remove_reviewer(deployed, name, group)
        say(f"{name} can no longer sign in")

    return people


reviewers = _people(REVIEWERS, "ReviewUrl", "Manage who may sign in to the review page.")
drivers = _people(DRIVERS, "DriverUrl", "Manage who may sign in to the drivers' page.")
