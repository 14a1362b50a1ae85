"""Every single flipped bit of a sealed folder is found, the manifest's own among them."""

import random
from pathlib import Path

import pytest

from nlpkit.errors import ArtifactError
from nlpkit.store import lines, manifest


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    folder = tmp_path / "x"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.bin").write_bytes(bytes(range(256)))
    (folder / "sub" / "b.txt").write_text("b")
    (folder / "log.txt").write_text("")
    manifest.seal(folder, "vectors", made_with={"recipe": "abc"}, leave=["log.txt"], notes={"n": 1})
    return folder


def test_sealed_content_reads_back(sealed: Path) -> None:
    made = manifest.check(sealed, "vectors")
    assert set(made.files) == {"a.bin", "sub/b.txt"}
    assert made.made_with == {"recipe": "abc"} and made.notes == {"n": 1}
    with pytest.raises(ArtifactError, match="is a vectors, a index is needed"):
        manifest.read(sealed, "index")


def test_every_flipped_bit_is_found(sealed: Path) -> None:
    draw = random.Random(0)
    for name in ("a.bin", "sub/b.txt", manifest.NAME):
        path = sealed / name
        whole = path.read_bytes()
        for bit in {draw.randrange(len(whole) * 8) for _ in range(150)}:
            damaged = bytearray(whole)
            damaged[bit // 8] ^= 1 << bit % 8
            path.write_bytes(damaged)
            with pytest.raises(ArtifactError):
                manifest.check(sealed)
        path.write_bytes(whole)
    manifest.check(sealed)


def test_missing_and_cut_files_are_named(sealed: Path) -> None:
    (sealed / "a.bin").write_bytes(b"short")
    with pytest.raises(ArtifactError, match=r"a\.bin: 5 bytes, sealed with 256"):
        manifest.check(sealed)
    (sealed / "a.bin").unlink()
    with pytest.raises(ArtifactError, match=r"a\.bin: missing"):
        manifest.check(sealed)
    with pytest.raises(ArtifactError, match=r"MANIFEST\.json"):
        manifest.read(sealed / "sub")
    with pytest.raises(FileNotFoundError):
        manifest.read(sealed / "nowhere")


def test_the_fingerprint_follows_content_alone(sealed: Path) -> None:
    first = manifest.read(sealed).fingerprint
    assert (
        manifest.seal(sealed, "vectors", made_with={"recipe": "abc"}, leave=["log.txt"]).fingerprint == first
    )
    (sealed / "sub" / "b.txt").write_text("c")
    assert manifest.seal(sealed, "vectors", made_with={"recipe": "abc"}).fingerprint != first


@pytest.mark.parametrize("name", ["m.jsonl", "log.txt"])
def test_logs_find_flips_and_mend_torn_ends(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    jsonl = name.endswith("jsonl")
    for step in range(3):
        lines.append(path, lines.pack_record({"step": step}) if jsonl else lines.pack_text(f"step {step}"))
    whole = path.read_bytes()
    assert len(lines.check(path)) == 3
    for bit in range(len(whole) * 8):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(ArtifactError):
            lines.check(path)
    path.write_bytes(whole[:-5])
    with pytest.raises(ArtifactError, match="torn"):
        lines.check(path)
    lines.mend(path)
    assert len(lines.check(path)) == 2
