"""Tokenizers: learn, keep, open and apply; a skin over the ``tokenizers`` library, which owns tokenizer.json.

Text is standardized in one place. Steps that the library can express live inside tokenizer.json, so that any
program that opens the folder sees the same ids; the rest (stems, stop words) is for word tokenizers, lies
beside it in standardize.toml and is applied by :meth:`Tokenizer.encode`.
"""

import functools
import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from nlpkit.errors import ArtifactError, UsageError
from nlpkit.store import atomic, jsonfile, manifest
from nlpkit.text.recipe import Recipe
from nlpkit.text.standardize import Standardizer

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "<|endoftext|>")
ROLES = ("pad", "unk", "cls", "sep", "mask", "eos")
FILE, CONFIG_FILE, RECIPE_FILE = "tokenizer.json", "tokenizer_config.json", "standardize.toml"
_FALLBACK = {"pad": ("eos", "unk"), "cls": ("bos",), "sep": ("eos",), "unk": ("eos",), "eos": ("sep",)}
_USUAL = {"pad": "<pad>", "unk": "<unk>", "cls": "<s>", "sep": "</s>", "mask": "<mask>", "eos": "</s>"}


class Tokenizer:
    """Text to token ids and back.

    Every tokenizer trained here begins with ``[PAD] [UNK] [CLS] [SEP] [MASK] <|endoftext|>`` = 0 to 5. Ids are
    plain unless special tokens are asked for.
    """

    def __init__(
        self, text: str, *, recipe: Recipe | None = None, config: dict[str, Any] | None = None
    ) -> None:
        self.recipe = recipe or Recipe()
        self.truncated = 0  # texts that max_length has cut so far
        self._raw = _parse(text)
        self._raw.no_padding()  # a foreign tokenizer.json may pad every text; here padding is the batch's work
        self._text = text
        self._config = config or {}
        self._standardize = Standardizer(self.recipe) if self.recipe else None
        self._fingerprint, self._size = "", -1
        self.ours = all(self._raw.token_to_id(name) == i for i, name in enumerate(SPECIALS))
        self._roles = self._find_roles()
        if self.ours:
            self._raw.post_processor = _template()

    @classmethod
    def load(cls, folder: str | Path) -> "Tokenizer":
        """The tokenizer of a folder: one of ours (its seal is checked), a model's, or a Hugging Face folder.

        :raises UsageError: no such folder. :raises ArtifactError: damaged, or no tokenizer.json in it.
        """
        folder = Path(folder)
        if not folder.is_dir():
            problem = "is a file, the folder around it is needed" if folder.exists() else "no such tokenizer"
            raise UsageError(f"{folder}: {problem}; nlpkit train-tokenizer makes one")
        files = {name: folder / name for name in (FILE, CONFIG_FILE, RECIPE_FILE)}
        if (folder / manifest.NAME).exists():
            sealed = manifest.read(folder)
            if FILE not in sealed.files:
                where = next((n for n in sealed.files if n.endswith("/" + FILE)), None)
                hint = (
                    f"its tokenizer is {folder / Path(where).parent}"
                    if where
                    else "name a tokenizer or model"
                )
                raise ArtifactError(f"{folder}: is of kind {sealed.kind}, without a {FILE}; {hint}")
            for name in [n for n in files if n in sealed.files]:
                manifest.check_file(folder, sealed, name)
            files = {name: path for name, path in files.items() if name in sealed.files}
        if not folder.joinpath(FILE).is_file():
            raise ArtifactError(f"{folder}: has no {FILE}; make one with nlpkit train-tokenizer")
        named = files.get(CONFIG_FILE)
        config = jsonfile.read(named) if named is not None and named.is_file() else {}
        try:
            text = (folder / FILE).read_text(encoding="utf-8")
            pre = _outside(text, files.get(RECIPE_FILE))
            return cls(text, recipe=pre, config=config)
        except (ArtifactError, UnicodeDecodeError, UsageError) as error:
            raise ArtifactError(
                f"{folder / FILE}: not a tokenizer: {error}; {manifest.remedy(folder)}"
            ) from error

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        *,
        kind: str = "bpe",
        vocab_size: int = 8000,
        min_frequency: int | None = None,
        add_tokens: Sequence[str] = (),
        recipe: Recipe | None = None,
    ) -> "Tokenizer":
        """Learn a tokenizer of a kind from texts (:func:`nlpkit.text.tokenizer_training.train`)."""
        from nlpkit.text.tokenizer_training import train

        return train(texts, kind, vocab_size, min_frequency, tuple(add_tokens), recipe or Recipe())

    # ------------------------------------------------------------------ what it is

    @property
    def kind(self) -> str:
        """bpe, wordpiece, unigram, word or char (``char`` is a word model over single characters)."""
        name = type(self._raw.model).__name__
        if name == "WordLevel":
            return "char" if type(self._raw.pre_tokenizer).__name__ == "Split" else "word"
        return {"BPE": "bpe", "WordPiece": "wordpiece", "Unigram": "unigram"}[name]

    @property
    def vocab_size(self) -> int:
        """How many ids there are, special and added tokens included: one more than the largest id."""
        if self._size < 0:
            self._size = max(self._raw.get_vocab(with_added_tokens=True).values(), default=-1) + 1
        return self._size

    @functools.cached_property
    def definition(self) -> str:
        """What of tokenizer.json decides the ids of a whole plain text, as JSON with sorted keys."""
        body = json.loads(self._text)
        for key in ("post_processor", "truncation", "padding"):
            body.pop(key, None)
        return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True)

    @property
    def raw(self) -> Any:
        """The ``tokenizers.Tokenizer`` underneath."""
        return self._raw

    @property
    def fingerprint(self) -> str:
        """SHA-256 of what decides the ids: tokenizer.json without its template, and the recipe before it."""
        if not self._fingerprint:
            canonical = self.definition
            text = canonical + (self.recipe.hash if self.recipe else "")
            self._fingerprint = hashlib.sha256(text.encode()).hexdigest()
        return self._fingerprint

    def token_to_id(self, token: str) -> int | None:
        """The id of a token, or None."""
        found: int | None = self._raw.token_to_id(token)
        return found

    def id_to_token(self, id: int) -> str:
        """The token of an id (byte-level tokenizers write a leading space as Ġ); empty for a hole."""
        return self._raw.id_to_token(id) or ""

    def _find_roles(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for role in (*ROLES, "bos"):
            named = self._config.get(f"{role}_token")
            named = named.get("content") if isinstance(named, dict) else named
            ours = SPECIALS[ROLES.index(role)] if role in ROLES else None
            for name in (named, ours, _USUAL.get(role)):
                id = self._raw.token_to_id(name) if isinstance(name, str) else None
                if id is not None:
                    found[role] = id
                    break
        return found

    def _role(self, role: str) -> int:
        for name in (role, *_FALLBACK.get(role, ())):
            if name in self._roles:
                return self._roles[name]
        raise ArtifactError(f"this tokenizer has no {role} token; use one made by nlpkit train-tokenizer")

    @property
    def pad_id(self) -> int:
        """The id that fills up a batch."""
        return self._role("pad")

    @property
    def unk_id(self) -> int:
        """The id of what is not in the vocabulary."""
        return self._role("unk")

    @property
    def cls_id(self) -> int:
        """The id that begins an encoded text."""
        return self._role("cls")

    @property
    def sep_id(self) -> int:
        """The id that ends an encoded text."""
        return self._role("sep")

    @property
    def mask_id(self) -> int:
        """The id that hides a token."""
        return self._role("mask")

    @property
    def eos_id(self) -> int:
        """The id between documents of a language model (``<|endoftext|>``)."""
        return self._role("eos")

    # ------------------------------------------------------------------ what it does

    def standardize(self, text: str) -> str:
        """What the recipe before the tokenizer makes of a text (nothing is done when there is none)."""
        return self._standardize(text) if self._standardize else text

    def encode(
        self,
        texts: Sequence[str],
        *,
        pairs: Sequence[str] | None = None,
        special: bool = False,
        max_length: int | None = None,
        standardized: bool = False,
    ) -> list[list[int]]:
        """Token ids of each text, in order.

        ``special`` gives ``[CLS] a [SEP]``, with ``pairs`` ``[CLS] a [SEP] b [SEP]``. ``max_length`` counts the
        special tokens too and takes tokens off the end of the longer part; :attr:`truncated` counts the texts
        that were cut. ``standardized``: the text has already been through the recipe.
        """
        if isinstance(texts, str):
            raise TypeError("encode takes a list of texts, not one text")
        raw = self._raw
        wanted = None if max_length is None else self._room(max_length, special, pairs is not None)
        if wanted is None:
            if raw.truncation is not None:
                raw.no_truncation()
        elif raw.truncation is None or raw.truncation["max_length"] != wanted:
            raw.enable_truncation(wanted)
        if self._standardize and not standardized:
            texts = [self._standardize(t) for t in texts]
            pairs = None if pairs is None else [self._standardize(t) for t in pairs]
        rows: Any = list(texts) if pairs is None else list(zip(texts, pairs, strict=True))
        encoded = raw.encode_batch_fast(rows, add_special_tokens=special)
        if wanted is not None:
            self.truncated += sum(1 for e in encoded if e.overflowing)
        return [e.ids for e in encoded]

    def _room(self, max_length: int, special: bool, pair: bool) -> int:
        least = 1 + (self._raw.num_special_tokens_to_add(pair) if special else 0)
        if max_length < least:
            raise UsageError(f"max_length {max_length} leaves no room for text (at least {least} is needed)")
        return max_length

    def decode(self, ids: Sequence[int], *, special: bool = False) -> str:
        """The text of token ids; special tokens are left out unless ``special``."""
        text: str = self._raw.decode(list(ids), skip_special_tokens=not special)
        return text

    def pieces(self, text: str) -> list[str]:
        """Where the text is cut before the vocabulary is asked (byte-level pieces keep their leading space)."""
        raw = self._raw
        text = self.standardize(text)
        if raw.normalizer is not None:
            text = raw.normalizer.normalize_str(text)
        if raw.pre_tokenizer is None:
            return [text]
        return [text[a:b] for _, (a, b) in raw.pre_tokenizer.pre_tokenize_str(text)]

    # ------------------------------------------------------------------ where it lies

    def save(self, folder: str | Path, *, force: bool = False, notes: dict[str, Any] | None = None) -> None:
        """Write a sealed tokenizer folder: tokenizer.json (plain ids), its configuration, recipe and manifest."""
        with atomic.building(folder, force=force) as building:
            self.export(building, special=False)
            about = {"kind": self.kind, "vocab_size": self.vocab_size, **(notes or {})}
            made_with = {"recipe": self.recipe.hash} if self.recipe else {}
            manifest.seal(building, "tokenizer", made_with=made_with, notes=about)

    def export(self, folder: str | Path, *, special: bool = True) -> None:
        """Write tokenizer.json, tokenizer_config.json (and standardize.toml) into an existing folder.

        With ``special`` the written tokenizer adds ``[CLS]`` and ``[SEP]`` by itself, as the models that are
        exported with it expect of ``transformers.AutoTokenizer``. The fingerprint is the same either way.
        """
        folder = Path(folder)
        text = self._text
        if self.ours:
            body = json.loads(self._text)
            body["post_processor"] = json.loads(_template_text()) if special else None
            text = json.dumps(body, ensure_ascii=False, indent=1)
        (folder / FILE).write_text(text, encoding="utf-8")
        (folder / CONFIG_FILE).write_text(json.dumps(self._configuration(), indent=1), encoding="utf-8")
        if self.recipe:
            self.recipe.save(folder / RECIPE_FILE)

    def _configuration(self) -> dict[str, Any]:
        if not self.ours:
            return self._config
        names = {f"{role}_token": name for role, name in zip(ROLES, SPECIALS, strict=True)}
        settings = {
            "clean_up_tokenization_spaces": False,
            "padding_side": "right",
            "truncation_side": "right",
        }
        return {"tokenizer_class": "PreTrainedTokenizerFast", **settings, **names, **self._config}


def _template() -> Any:
    from tokenizers.processors import TemplateProcessing

    ids = [("[CLS]", SPECIALS.index("[CLS]")), ("[SEP]", SPECIALS.index("[SEP]"))]
    return TemplateProcessing(single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ids)


def _template_text() -> str:
    from tokenizers import Tokenizer as Raw
    from tokenizers import models

    raw = Raw(models.BPE())
    raw.post_processor = _template()
    return json.dumps(json.loads(raw.to_str())["post_processor"])


def _parse(text: str) -> Any:
    from tokenizers import Tokenizer as Raw

    try:
        return Raw.from_str(text)
    except (
        BaseException
    ) as error:  # the library raises plain Exception, and its panics are no Exception at all
        if isinstance(error, KeyboardInterrupt | SystemExit | MemoryError):
            raise
        raise ArtifactError(str(error).split("\n")[0][:200]) from error


def _outside(text: str, path: Path | None) -> Recipe | None:
    """The recipe that is applied before the tokenizer: a recipe whose steps are not inside tokenizer.json."""
    if path is None or not path.is_file():
        return None
    recipe = Recipe.load(path)
    try:
        inside = json.loads(text).get("normalizer") is not None
    except (ValueError, AttributeError, RecursionError) as error:
        raise ArtifactError(str(error)) from error
    return None if inside else recipe
