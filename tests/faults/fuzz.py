"""Search for hostile files by coverage: `python fuzz.py "names pickled" -runs=20000` (pip install passerby[fuzz]).

The readers are those of `targets`, the promise is that of `hostile`: whatever breaks it ends the search, and libFuzzer leaves
the input in a file. Options behind the target's name are libFuzzer's, such as `-max_total_time=60`.
"""

import sys
import tempfile
from pathlib import Path

import atheris

READERS = ["passerby", "captioning", "csv", "jinja2", "json", "pickle", "pickletools", "safetensors", "tomllib", "yaml"]
"""What is searched by coverage; PyTorch's 80,000 functions would take minutes to prepare."""

with atheris.instrument_imports(include=READERS):
    import hostile
    from damage import WORDS, with_checksums
    from hostile import MARK, Undocumented, read_hostile
    from targets import TARGETS

hostile.CPU_SECONDS = 100  # instrumented code is slow; libFuzzer keeps the time


def main() -> None:
    """Fuzz one reader."""
    name, *options = sys.argv[1:] or [""]
    if name not in TARGETS:
        sys.exit(f"give the name of a target: {', '.join(TARGETS)}")
    target = TARGETS[name]
    folder = Path(tempfile.mkdtemp(prefix="passerby-fuzz-"))
    place, corpus = folder / f"{MARK} {name}", folder / "corpus"
    place.mkdir()
    corpus.mkdir()
    target.prepare(place)
    (corpus / "sound").write_bytes((place / target.file).read_bytes())
    suffix = Path(target.file).suffix
    for number, word in enumerate(WORDS.get(suffix, ())):
        (corpus / f"word{number}").write_bytes(word)

    def read(data: bytes) -> None:
        try:
            read_hostile(target, place, with_checksums(data, suffix))
        except Undocumented as fault:
            raise AssertionError(*fault.args) from fault

    atheris.Setup([sys.argv[0], str(corpus), "-rss_limit_mb=4096", "-timeout=20", *options], read)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
