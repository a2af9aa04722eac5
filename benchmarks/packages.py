"""The packages that `sam build` makes for Lambda, and their upload sizes."""

import os
import subprocess
import tempfile
import zipfile
from pathlib import Path

from loading_bay.local.deployment import SAM

from . import machine
from .figures import ROOT, Quartiles
from .results import Reading, Result, Row

# MB, by function. Published versions of this project bundle the SageMaker SDK, in zips of 46 to 60 MB.
REACH = {"Threshold": 3, "Inference": 3, "Serialize": 20}
PUBLISHED = Reading("published versions", Quartiles.of([46, 53, 60]))


def run(runs: int) -> Result:
    """Build once, for the Lambda runtime and processor; sizes do not vary."""
    before = machine.load()
    with tempfile.TemporaryDirectory() as folder:
        build = [str(SAM), "build", "--template", str(ROOT / "template.yaml"), "--build-dir", folder]
        environment = {name: value for name, value in os.environ.items() if name != "LAMBDA_PYTHON"}
        subprocess.run(build, check=True, capture_output=True, cwd=ROOT, env={**environment, "SAM_CLI_TELEMETRY": "0"})
        packages = {name: Path(folder, f"{name}Function") for name in REACH}
        rows = [_row(name, package) for name, package in packages.items()]
        compiled = any(packages["Threshold"].rglob("*.pyc"))
    remark = (
        "with bytecode" if compiled else "without bytecode: no interpreter of the runtime's version is installed here"
    )
    return Result("packages", "Packages for Lambda", rows, before, [remark])


def _row(name: str, package: Path) -> Row:
    archive = package.with_suffix(".zip")
    files = [path for path in sorted(package.rglob("*")) if path.is_file()]
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
        for path in files:
            zipped.write(path, path.relative_to(package))
    size = archive.stat().st_size / 1e6
    unpacked = sum(path.stat().st_size for path in files) / 1e6
    reach = f"≤ {REACH[name]} MB"
    return Row(
        name.lower(),
        "MB",
        Quartiles.of([size]),
        PUBLISHED,
        None,
        reach,
        size <= REACH[name],
        f"{unpacked:.0f} MB unpacked",
    )
