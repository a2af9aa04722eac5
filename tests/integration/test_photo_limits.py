"""The largest photos that are accepted fit the function's memory and time in every format."""

import json
import subprocess
import sys
from pathlib import Path

import pillow_heif
import pytest
from PIL import Image

from loading_bay.stack.template import ROOT, read_template

pillow_heif.register_heif_opener()
TEMPLATE = read_template()
FUNCTION = TEMPLATE["Resources"]["SerializeFunction"]["Properties"]
MAX_PIXELS = int(FUNCTION["Environment"]["Variables"]["MAX_PHOTO_PIXELS"])
# Memory of the runtime and the rest of the handler's imports, measured 75 MB, and of the file itself, up to 26 MB.
ELSEWHERE_MB = 130
SECONDS = 10  # of processor time, the decoder's limit

MEASURE = """
import json, sys, time
from functions.photo.decoder import Decoder
data = open(sys.argv[1], "rb").read()
decoder = Decoder(max_pixels=int(sys.argv[2]))
its_time = (~decoder.start() << 3) | 2  # Linux's clock of another process's time, as clock_getcpuclockid gives it
reduced = decoder.square(data, 32)
statuses = [line for each in ("self", decoder.start()) for line in open(f"/proc/{each}/status")]
peak = sum(int(line.split()[1]) for line in statuses if line.startswith("VmHWM")) / 1024
print(json.dumps({"mb": peak, "seconds": time.clock_gettime(its_time), "format": reduced.format}))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells the peak of one process")
@pytest.mark.parametrize(
    ("mode", "format", "size", "options"),
    [
        # libwebp keeps two more pictures, and limits sides to 16,383 pixels.
        ("RGBA", "WEBP", (16_383, MAX_PIXELS // 16_383), {"quality": 10, "method": 0}),
        pytest.param(
            *("RGBA", "AVIF", (8192, MAX_PIXELS // 8192), {"quality": 10, "speed": 10}), marks=pytest.mark.long
        ),
        pytest.param(*("I;16", "PNG", (8192, MAX_PIXELS // 8192), {"compress_level": 1}), marks=pytest.mark.long),
        # Neither can be decoded at a smaller scale, and a progressive photo only completely.
        ("CMYK", "JPEG", (8192, MAX_PIXELS // 8192), {"progressive": True}),
    ],
    ids=["WebP", "AVIF", "16-bit PNG", "progressive CMYK"],
)
def test_the_largest_photo_fits_the_function(
    tmp_path: Path, mode: str, format: str, size: tuple[int, int], options: dict[str, object]
) -> None:
    photo = tmp_path / "photo"
    Image.new(mode, size, 100 if mode == "I;16" else (200, 10, 10, 100)).save(photo, format, **options)

    command = [sys.executable, "-c", MEASURE, str(photo), str(MAX_PIXELS)]
    measured = json.loads(subprocess.run(command, check=True, cwd=ROOT, capture_output=True, text=True).stdout)

    assert measured["format"] == format
    assert measured["mb"] + ELSEWHERE_MB < FUNCTION["MemorySize"], measured
    # The processor of a function may be a third as fast as this one.
    assert measured["seconds"] * 3 < SECONDS, measured
