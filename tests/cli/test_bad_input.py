"""Every verb against every bad input: one line that names the thing and the remedy, the exit code, nothing changed.

A case is a command line in which ``{}`` stands for the bad thing. It runs in a folder of small good artefacts,
and every byte of that folder is compared before and after.
"""

import hashlib
import io
import random
import re
import resource
import shutil
import subprocess
import sys
from contextlib import chdir, contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from nlpkit.cli import run

SMALL = "-s model.width=16 -s model.depth=1 -s model.heads=2 -s train.threads=1 --steps 2 --tokenizer tok"
VAE = "-s model.hidden=8 -s model.depth=1 -s model.latent=2 -s train.threads=1 --steps 2"
CNN = "-s model.channels=[4] -s train.threads=1 --steps 2"
GLOVE = "--size 8 --epochs 1 --min-count 1 -j 1"
MAKE = [
    "train-tokenizer text.txt -o tok --vocab-size 300",
    "train-tokenizer text.txt -o words --kind word --vocab-size 50",
    f"train-glove text.txt -o glove {GLOVE}",
    f"pretrain text.txt -o mlm {SMALL} -s data.context=16",
    f"pretrain text.txt -o clm --objective clm {SMALL} -s data.context=16",
    f"train classifier --data labels.tsv -o classifier {SMALL}",
    f"train biencoder --data pairs.tsv -o biencoder {SMALL}",
    f"train crossencoder --data pairs.tsv -o crossencoder {SMALL}",
    f"train cnn --data images.npz -o cnn {CNN}",
    f"train vae --data images.npz -o vae {VAE}",
    "index build text.txt -o index",
    "index build text.txt -o dense --model biencoder",
    "tokenize text.txt --tokenizer tok -o shard.npy --format npy",
    "tokenize text.txt --tokenizer words -o other.npy --format npy",
]
REMEDY = re.compile(
    r"did you mean|known: |see: |expected |needed|needs |looked for|; '?nlpkit |"
    r"\b(check|choose|pass|name|use|add|give|free|put|make|mend|build|rebuild|remove|restore|finish)\b"
)


def nl(words: str) -> int:
    return run(words.split())


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    generator = random.Random(0)
    words = "red blue cat dog runs sleeps the a".split()
    texts = [" ".join(generator.choices(words, k=10)) for _ in range(40)]
    (folder / "text.txt").write_text("\n\n".join(texts) + "\n")
    rows = "".join(f"{'ab'[i % 2]}\t{t}\n" for i, t in enumerate(texts))
    (folder / "labels.tsv").write_text(f"label\ttext\n{rows}")
    pairs = "".join(f"{a}\t{b}\n" for a, b in pairwise(texts))
    (folder / "pairs.tsv").write_text(f"query\tdoc\n{pairs}")
    pixels = np.random.default_rng(0).random((40, 4, 4), np.float32)
    np.savez(folder / "images.npz", images=pixels, labels=np.arange(40) % 4)
    for kind in ("txt", "tsv", "npz", "toml"):
        (folder / f"empty.{kind}").touch()
    (folder / "latin.txt").write_bytes(b"one caf\xe9\n\ntwo caf\xe9s and more\n")
    (folder / "latin.tsv").write_bytes(b"label\ttext\na\tcaf\xe9\n")
    (folder / "folder").mkdir()
    (folder / "ids.txt").write_text("6 7 8\n" * 20)
    (folder / "long.txt").write_text("\n".join(texts * 50))
    (folder / "key.toml").write_text("[model]\nwidht = 16\n")
    (folder / "step.toml").write_text('stesp = ["lower"]\n')
    (folder / "broken.toml").write_text("a = [1\n")
    (folder / "binary.toml").write_bytes(b"a = \xff\n")
    with chdir(folder):
        for line in MAKE:
            assert nl(line) == 0, line
    return folder


@pytest.fixture(autouse=True)
def _here(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))


def tree(folder: str | Path = ".") -> dict[str, str]:
    """What is there: every folder, and every file with its hash."""
    found = {}
    for path in Path(folder).rglob("*"):
        if path.name != ".lock":  # says who writes; holds nothing
            found[str(path)] = "folder" if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def refused(capfd, words: str, code: int, names: str, *, where: str | Path = ".") -> str:
    """Run a command line that has to fail: the whole of what is asked of a failure, and its line."""
    capfd.readouterr()
    before = tree(where)
    got = nl(words)
    out, err = capfd.readouterr()
    *notes, last = err.splitlines() or [""]
    assert got == code, (got, err)
    assert last.startswith("nlpkit: ") and not last.startswith("nlpkit: warning"), err
    assert sum(line.startswith("nlpkit: ") and "warning" not in line for line in notes) == 0, err
    assert names in last, last
    assert REMEDY.search(last), last
    assert "Traceback" not in err and "fault of nlpkit" not in err and out == ""
    assert tree(where) == before
    return last


# What reads text or rows: the line, and the names of an absent and an empty file of the right suffix.
READ = {
    "corpus split {} -o out": "txt",
    "corpus stats {}": "txt",
    "standardize {} -o out.txt": "txt",
    "train-tokenizer {} -o out": "txt",
    "tokenize {} --tokenizer tok": "txt",
    "detokenize {} --tokenizer tok": "txt",
    f"train-glove {{}} -o out {GLOVE}": "txt",
    f"pretrain {{}} -o out {SMALL}": "txt",
    f"pretrain {{}} -o out --objective clm {SMALL}": "txt",
    f"pretrain text.txt --valid {{}} -o out {SMALL}": "txt",
    f"train classifier --data {{}} -o out {SMALL}": "tsv",
    f"train biencoder --data {{}} -o out {SMALL}": "tsv",
    f"train crossencoder --data {{}} -o out {SMALL}": "tsv",
    f"train cnn --data {{}} -o out {CNN}": "npz",
    f"train vae --data {{}} -o out {VAE}": "npz",
    "eval mlm --data {}": "txt",
    "eval classifier --data {}": "tsv",
    "eval biencoder --data {}": "tsv",
    "eval crossencoder --data {}": "tsv",
    "eval cnn --data {}": "npz",
    "eval vae --data {}": "npz",
    "classify classifier {}": "txt",
    "embed biencoder {} -o out.npy": "txt",
    "embed glove {} --jsonl": "txt",
    "index build {} -o out": "txt",
    "index build {} -o out --model biencoder": "txt",
    "index add index {}": "txt",
    "search index --queries {}": "tsv",
    "eval index --queries {} --qrels labels.tsv": "tsv",
    "eval index --queries pairs.tsv --qrels {}": "tsv",
    "standardize text.txt --recipe {}": "toml",
    "train-tokenizer text.txt -o out --recipe {}": "toml",
    "train-glove text.txt -o out --recipe {}": "toml",
    "index build text.txt -o out --recipe {}": "toml",
    f"pretrain text.txt -o out {SMALL} -c {{}}": "toml",
    f"train classifier --data labels.tsv -o out {SMALL} -c {{}}": "toml",
    f"train vae --data images.npz -o out {VAE} -c {{}}": "toml",
}


FILTERS = ("standardize", "tokenize", "detokenize", "classify", "embed", "corpus stats", "index add")
ROWS = {line: kind for line, kind in READ.items() if kind != "toml"}
LEARN = {line: kind for line, kind in ROWS.items() if not line.startswith(FILTERS)}
RECIPE = {line: kind for line, kind in READ.items() if kind == "toml"}


@pytest.mark.parametrize("line", READ)
def test_a_missing_file_or_a_folder_in_its_place(line, capfd):
    refused(capfd, line.format(f"absent.{READ[line]}"), 2, f"absent.{READ[line]}: ")
    texts = READ[line] == "txt" or "quer" in line  # these read folders too, but this one holds nothing
    refused(capfd, line.format("folder"), 3 if texts else 2, "folder: ")


@pytest.mark.parametrize("line", LEARN)
def test_an_empty_file_is_3_to_what_learns_or_measures(line, capfd):
    refused(capfd, line.format(f"empty.{LEARN[line]}"), 3, f"empty.{LEARN[line]}: ")


@pytest.mark.parametrize("line", [k for k in ROWS if k.startswith(FILTERS) and "index" not in k])
def test_an_empty_file_is_nothing_to_a_filter(line, capfd, tmp_path):
    assert nl(line.replace("-o out", f"-o {tmp_path}/out").format("empty.txt")) == 0
    out, err = capfd.readouterr()
    assert err == "" and (out == "" or line.startswith("corpus stats"))
    for made in tmp_path.iterdir():
        assert made.read_bytes() == b"" if made.suffix != ".npy" else len(np.load(made)) == 0


@pytest.mark.parametrize("line", ["standardize", "tokenize --tokenizer tok", "detokenize --tokenizer tok"])
def test_a_closed_or_empty_stdin_is_nothing_to_a_filter(line, capfd, monkeypatch):
    assert nl(line) == 0
    assert capfd.readouterr() == ("", "")
    monkeypatch.setattr(sys, "stdin", None)
    assert nl(line) == 2
    assert "Usage: nlpkit" in capfd.readouterr().out


OUTPUT = [
    "standardize text.txt -o folder --force",
    "standardize text.txt --save-recipe folder --force",
    "tokenize text.txt --tokenizer tok -o folder --force",
    "detokenize ids.txt --tokenizer tok -o folder --force",
    "classify classifier text.txt -o folder --force",
    "embed biencoder text.txt -o folder --force",
    "sample vae --grid folder --force",
    "search index --queries text.txt --run folder --force",
    "corpus split text.txt -o ids.txt --force",
    "train-tokenizer text.txt -o ids.txt --force",
    f"train-glove text.txt -o ids.txt {GLOVE} --force",
    f"pretrain text.txt -o ids.txt {SMALL} --force",
    f"train vae --data images.npz -o ids.txt {VAE} --force",
    "index build text.txt -o ids.txt --force",
]


@pytest.mark.parametrize("line", OUTPUT)
def test_an_output_that_is_a_folder_or_file_of_another_kind_stays(line, capfd):
    refused(capfd, line, 2, "folder" if "folder" in line else "ids.txt")


@pytest.mark.parametrize("line", [k for k in ROWS if ROWS[k] == "txt" and not k.startswith("detokenize")])
def test_invalid_utf8_is_counted_once_or_refused_with_its_place(line, capfd, tmp_path):
    line = line.format("latin.txt").replace("-o out", f"-o {tmp_path}/out")
    if line.startswith(("index add", "eval")):
        name = line.split()[2 if line.startswith("index") else 1]
        shutil.copytree(name, tmp_path / name)
        line = line.replace(f" {name} ", f" {tmp_path / name} ")
    if not line.startswith(("pretrain", "eval")):
        refused(capfd, f"{line} --errors strict", 3, "latin.txt:1: ")
    assert nl(line) == 0
    err = capfd.readouterr().err
    assert err.count("not UTF-8") == 1 and "warning: 2 byte sequences" in err


def test_rows_that_are_not_utf8(capfd):
    refused(capfd, "detokenize latin.txt --tokenizer tok", 3, "latin.txt:1: ")
    assert nl("search index --queries latin.tsv") == 0
    assert capfd.readouterr().err.count("not UTF-8") == 1


@pytest.mark.parametrize("bad", ["key", "step", "broken", "binary", "empty"])
@pytest.mark.parametrize("line", RECIPE)
def test_a_bad_recipe(line, bad, capfd):
    if bad == "empty" and "-c" in line.split():
        return  # an empty configuration is all defaults
    last = refused(capfd, line.format(f"{bad}.toml"), 2, f"{bad}.toml: ")
    if bad in ("key", "step"):
        assert "; did you mean '" in last or "; known: " in last


NEAREST = {
    "train clasifier --data labels.tsv -o out": "classifier",
    "pretrain text.txt -o out --objective clmm": "clm",
    "pretrain text.txt -o out -c tiny-mlmm": "tiny-mlm",
    "pretrain text.txt -o out -s train.stesp=2": "steps",
    "train-tokenizer text.txt -o out --kind bpee": "bpe",
    "tokenize text.txt --tokenizer tok --format idss": "ids",
    "index build text.txt -o out --recipe lowre": "lower",
    "search index red --mode bm52": "bm25",
    "standardize text.txt --errors replcae": "replace",
    "corpus stats text.txt --documents lin": "line",
    "fill-mask mlm x --devcie cpu": "--device",
    "serch index red": "search",
    "index bild text.txt": "build",
}


@pytest.mark.parametrize("line", NEAREST)
def test_an_unknown_name_gets_the_nearest_known_one(line, capfd):
    refused(capfd, line, 2, NEAREST[line])


# What opens an artefact, and which file of which artefact has a flipped bit in its place.
OPEN = {
    "tokenize text.txt --tokenizer {}": "tok/tokenizer.json",
    "detokenize ids.txt --tokenizer {}": "words/tokenizer.json",
    f"pretrain text.txt -o out {SMALL.replace(' tok', ' {}')}": "tok/MANIFEST.json",
    f"pretrain text.txt -o out --from {{}} {SMALL}": "mlm/model/model.safetensors",
    f"train classifier --data labels.tsv -o out --from {{}} {SMALL}": "mlm/model/config.json",
    "vectors nearest {} red": "glove/vectors.safetensors",
    "fill-mask {} <MASK>": "mlm/model/model.safetensors",
    "generate {} red": "clm/model/tokenizer.json",
    "eval {}": "classifier/model/model.safetensors",
    "classify {} text.txt": "classifier/model/model.safetensors",
    "embed {} text.txt -o out.npy": "biencoder/model/model.safetensors",
    "embed {} text.txt --jsonl": "glove/words.txt",
    "index build text.txt -o out --model {}": "biencoder/model/config.json",
    "index add {} text.txt": "index/documents.sqlite",
    "index delete {} x": "index/documents.sqlite",
    "index info {}": "index/MANIFEST.json",
    "search {} red --mode dense": "dense/derived-000001/vectors.npy",
    "search {} red": "index/derived-000001/bm25-counts.npy",
    "search index red --rerank {}": "crossencoder/model/model.safetensors",
    "sample {} --grid out.png": "vae/model/model.safetensors",
    "runs show {}": "mlm/config.toml",
    "verify {}": "cnn/model/model.safetensors",
}


@pytest.mark.parametrize("line", OPEN)
def test_an_artefact_that_is_not_there_or_is_something_else(line, capfd):
    refused(capfd, line.format("absent"), 2, "absent")
    refused(capfd, line.format("ids.txt"), 2, "ids.txt")
    names = line.startswith(("verify", "runs"))  # these ask what it is; the others need it to be one thing
    refused(capfd, line.format("folder"), 2 if names else 4, "folder: ")
    other = "index" if "--tokenizer {}" in line else "words"
    if not names:
        refused(capfd, line.format(other), 4, f"{other}: ")


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


@pytest.mark.parametrize("line", OPEN)
def test_one_flipped_bit(line, capfd, tmp_path):
    name, _, inside = OPEN[line].partition("/")
    bad = tmp_path / name
    shutil.copytree(name, bad)
    shutil.copytree("biencoder", tmp_path / "biencoder", dirs_exist_ok=True)  # the model of the index
    flip(bad / inside)
    if line.startswith("verify"):
        assert nl(line.format(bad)) == 4
        assert f"{bad / inside}: damaged" in capfd.readouterr().out
        return
    refused(capfd, line.format(bad), 4, str(bad / inside), where=tmp_path)


def test_a_flipped_bit_in_a_checkpoint_stops_the_resume(capfd, tmp_path):
    shutil.copytree("mlm", tmp_path / "run")
    (tmp_path / "run" / "MANIFEST.json").unlink()  # as if it had not finished
    for weights in tmp_path.glob("run/checkpoints/*/model.safetensors"):
        flip(weights)
    line = f"pretrain text.txt -o {tmp_path}/run {SMALL} -s data.context=16"
    refused(capfd, line, 4, "checkpoints", where=tmp_path)


def test_another_tokenizer_or_model_than_the_one_it_was_made_with(home, capfd, tmp_path, monkeypatch):
    refused(capfd, f"pretrain other.npy -o out {SMALL}", 4, "other")
    refused(capfd, "detokenize ids.txt --tokenizer glove", 4, "glove: ")
    shutil.copytree("dense", tmp_path / "dense")
    shutil.copytree("biencoder", tmp_path / "biencoder")
    monkeypatch.chdir(tmp_path)
    assert nl("search dense red --mode dense") == 0
    shutil.rmtree("biencoder")
    refused(capfd, "search dense red --mode dense", 4, "nlpkit index build")
    shutil.copytree(home / "mlm", "biencoder")
    refused(capfd, "search dense red --mode dense", 4, "--mode bm25")
    Path("more.txt").write_text("words that the index has not seen\n")
    assert nl("index add dense more.txt") == 4 and "dense: " in capfd.readouterr().err
    assert nl("verify dense") == 0
    capfd.readouterr()
    assert nl("search dense red --mode bm25") == 0
    assert capfd.readouterr().out


WRITE = [
    "corpus split text.txt -o {}/out",
    "standardize text.txt -o {}/out.txt",
    "train-tokenizer text.txt -o {}/out --vocab-size 300",
    "tokenize text.txt --tokenizer tok -o {}/out.npy --format npy",
    f"train-glove text.txt -o {{}}/out {GLOVE}",
    f"pretrain text.txt -o {{}}/out {SMALL} -s data.context=16",
    f"pretrain text.txt -o {{}}/out --objective clm {SMALL} -s data.context=16",
    f"train classifier --data labels.tsv -o {{}}/out {SMALL}",
    f"train vae --data images.npz -o {{}}/out {VAE}",
    "embed biencoder text.txt -o {}/out.npy",
    "index build text.txt -o {}/out --model biencoder",
    "sample vae --grid {}/out.png",
]
LARGE = [line for line in WRITE if re.match("train-glove|index|pretrain|train ", line)]


@contextmanager
def mounted(folder: Path, size: str):
    """A small file system of its own, so that a full and a read-only disk are real where mounting is allowed."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("needs the right to mount")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.parametrize(("line", "pages"), [(w, 0) for w in WRITE] + [(w, n) for w in LARGE for n in (2, 6)])
def test_a_full_disk_leaves_nothing_half_made(line, pages, capfd, tmp_path):
    with mounted(tmp_path, "64k"):
        (tmp_path / "ballast").write_bytes(b"x" * 4096 * (16 - pages))
        last = refused(capfd, line.format(tmp_path), 6, str(tmp_path), where=tmp_path)
        assert "MB free" in last or "disk is full" in last


def test_a_run_that_filled_the_disk_goes_on_when_there_is_room(capfd, tmp_path):
    line = f"pretrain text.txt -o {tmp_path}/run {SMALL} -s data.context=16 -s train.checkpoint_every=1"
    with mounted(tmp_path, "220k"):
        assert nl(line) == 6
        assert str(tmp_path) in capfd.readouterr().err.splitlines()[-1]
        assert (tmp_path / "run" / "checkpoints" / "000001").is_dir() and nl(f"verify {tmp_path}/run") == 0
        subprocess.run(["mount", "-o", "remount,size=2m", tmp_path], check=True)
        assert nl(line) == 0 and "fill-mask" in capfd.readouterr().err


@pytest.mark.parametrize("line", [*WRITE, "index add {}/index text.txt", "index delete {}/index x"])
def test_a_read_only_folder(line, capfd, tmp_path):
    with mounted(tmp_path, "1m"):
        shutil.copytree("index", tmp_path / "index")
        subprocess.run(["mount", "-o", "remount,ro", tmp_path], check=True)
        refused(capfd, line.format(tmp_path), 6, str(tmp_path), where=tmp_path)
        assert nl(f"search {tmp_path}/index red") == 0


@pytest.mark.parametrize("line", WRITE)
def test_a_file_that_may_not_grow(line, capfd, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, hard))
    try:
        refused(capfd, line.format(tmp_path), 6, str(tmp_path), where=tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


VERBS = ["corpus", "corpus split", "train-tokenizer", "tokenize", "detokenize", "train-glove", "vectors"]
VERBS += ["vectors nearest", "pretrain", "fill-mask", "generate", "train", "eval", "classify", "embed"]
VERBS += ["index", "index build", "index add", "index delete", "index info", "search", "sample", "verify"]
VERBS += ["runs", "runs show"]


@pytest.mark.parametrize("line", VERBS)
def test_a_verb_alone_says_what_it_needs(line, capfd):
    before = tree()
    assert nl(line) == 2
    out, err = capfd.readouterr()
    assert "Usage: nlpkit" in out + err or (err.startswith("nlpkit: ") and err.count("\n") == 1)
    assert "Traceback" not in out + err and tree() == before


PIPED = ["standardize long.txt", "tokenize long.txt --tokenizer tok", "detokenize ids.txt --tokenizer tok"]
PIPED += ["classify classifier text.txt", "embed glove long.txt --jsonl"]
PIPED += ["search index --queries long.txt --jsonl"]


@pytest.mark.parametrize("line", PIPED)
def test_a_reader_that_leaves_is_silence_and_0(line, capfd):
    script = f"import sys; from nlpkit.cli import run; sys.exit(run({line.split()!r}))"
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    said = process.stderr.read()
    assert (process.wait(timeout=60), said) == (0, b"")
    process.stderr.close()
