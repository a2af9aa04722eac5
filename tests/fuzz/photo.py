"""Fuzzes the photo reader, guided by its coverage and that of Pillow in Python: python -m tests.fuzz.photo.

Accepts libFuzzer options, such as -max_total_time=300, and a folder for files that reach new code.
The C decoders are not instrumented; their own projects run sanitizers.
"""

import random
import sys
from pathlib import Path

import atheris  # type: ignore[import-untyped,import-not-found,unused-ignore]

with atheris.instrument_imports():
    from .pictures import check, seeds, spoil


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """Damage a file like tests/unit, or like libFuzzer."""
    rng = random.Random(seed)
    if rng.random() < 0.5:
        return spoil(data or rng.choice(seeds()), rng, rng.randint(1, 4))[:max_size]
    return bytes(atheris.Mutate(data, max_size))


def main() -> None:
    """Run the fuzzer, starting from a file of every kind."""
    corpus = Path(next((argument for argument in sys.argv[1:] if not argument.startswith("-")), ".local/fuzz"))
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds()):
        (corpus / f"seed-{number:02d}").write_bytes(seed)
    options = [argument for argument in sys.argv[1:] if argument.startswith("-")]
    defaults = ["-timeout=10", "-rss_limit_mb=1024", "-max_len=16384", f"-artifact_prefix={corpus}/"]
    atheris.Setup([sys.argv[0], *defaults, *options, str(corpus)], check, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
