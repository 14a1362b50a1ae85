"""Tokenizers: learn, keep, open and apply; a skin over the ``tokenizers`` library, which owns tokenizer.json.

Text is standardized in one place. Steps that the library can express live inside tokenizer.json, so that any
program that opens the folder sees the same ids; the rest (stems, stop words) is for word tokenizers, lies
beside it in standardize.toml and is applied by :meth:`Tokenizer.encode`.
"""

import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nlpkit import console
from nlpkit.errors import ArtifactError, UsageError
from nlpkit.store import atomic, jsonfile, manifest
from nlpkit.text import long_texts
from nlpkit.text.encoded import Encoded
from nlpkit.text.recipe import Recipe
from nlpkit.text.tokenizer_file import parse, read

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "<|endoftext|>")
ROLES = ("pad", "unk", "cls", "sep", "mask", "eos")
FILE, CONFIG_FILE, RECIPE_FILE = "tokenizer.json", "tokenizer_config.json", "standardize.toml"
_WORTH_AN_ENGINE = 1 << 22  # characters of a text; a faster way to ids takes a while to load
_FALLBACK = {"pad": ("eos", "unk"), "cls": ("bos",), "sep": ("eos",), "unk": ("eos",), "eos": ("sep",)}
_USUAL = {"pad": "<pad>", "unk": "<unk>", "cls": "<s>", "sep": "</s>", "mask": "<mask>", "eos": "</s>"}


class Tokenizer:
    """Text to token ids and back.

    Every tokenizer trained here begins with ``[PAD] [UNK] [CLS] [SEP] [MASK] <|endoftext|>`` = 0 to 5. Ids are
    plain unless special tokens are asked for.
    """

    def __init__(
        self,
        text: str,
        *,
        recipe: Recipe | None = None,
        config: dict[str, Any] | None = None,
        fingerprint: str = "",
        raw: Any = None,  # what the library made ``text`` of, where that was just done
    ) -> None:
        self.text = text
        if not fingerprint:  # it was checked before its fingerprint was sealed with it
            self.body  # noqa: B018
        self._raw = _opened(text) if raw is None else raw
        self._raw.no_padding()  # a foreign tokenizer.json may pad every text; here padding is the batch's work
        self._config = config or {}
        #: The SHA-256 of the recipe that it was made with, wherever its steps are applied; empty without one.
        self.recipe_hash = recipe.hash if recipe else ""
        self._whole_recipe = recipe or Recipe()
        #: What is applied before: a recipe whose steps are not inside tokenizer.json.
        self.recipe = recipe if recipe and self._raw.normalizer is None else Recipe()
        self.truncated = 0  # texts that max_length has cut so far
        self._told = False  # whether it was said that a long run was encoded in pieces
        #: A faster way to the ids of a piece of a long text, where one is loaded; None: it cannot do this piece.
        self.engine: Callable[[str], list[int] | None] | None = None
        self._engine_sought = False
        self._standardize = _standardizer(self.recipe) if self.recipe else None
        self._fingerprint = fingerprint
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
        fingerprint = made_with = ""
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
            fingerprint = str(sealed.notes.get("fingerprint", "")) if sealed.kind == "tokenizer" else ""
            made_with = sealed.made_with.get("recipe", "")
        if not folder.joinpath(FILE).is_file():
            raise ArtifactError(f"{folder}: has no {FILE}; make one with nlpkit train-tokenizer")
        named = files.get(CONFIG_FILE)
        config = jsonfile.read(named) if named is not None and named.is_file() else {}
        try:
            beside = files.get(RECIPE_FILE)
            recipe = Recipe.load(beside) if beside is not None and beside.is_file() else None
            if made_with and made_with != (recipe.hash if recipe else ""):
                raise ArtifactError("its recipe is not the one that it was made with (stop words differ)")
            return cls(read(folder / FILE), recipe=recipe, config=config, fingerprint=fingerprint)
        except (ArtifactError, UsageError) as error:
            raise ArtifactError(
                f"{folder / FILE}: not a tokenizer: {error}; {manifest.remedy(folder)}"
            ) from error

    @classmethod
    def train(
        cls,
        texts: Iterable[str | bytes],
        *,
        kind: str = "bpe",
        vocab_size: int = 8000,
        min_frequency: int | None = None,
        add_tokens: Sequence[str] = (),
        recipe: Recipe | None = None,
        byte_fallback: bool = False,
    ) -> "Tokenizer":
        """Learn a tokenizer of a kind from texts (:func:`nlpkit.text.tokenizer_training.train`)."""
        from nlpkit.text.tokenizer_training import train

        added = tuple(add_tokens)
        return train(texts, kind, vocab_size, min_frequency, added, recipe or Recipe(), byte_fallback)

    # ------------------------------------------------------------------ what it is

    @property
    def kind(self) -> str:
        """bpe, wordpiece, unigram, word or char (``char`` is a word model over single characters)."""
        name = type(self._raw.model).__name__
        if name == "WordLevel":
            return "char" if type(self._raw.pre_tokenizer).__name__ == "Split" else "word"
        return {"BPE": "bpe", "WordPiece": "wordpiece", "Unigram": "unigram"}[name]

    @functools.cached_property
    def body(self) -> dict[str, Any]:
        """The object in tokenizer.json, checked (:func:`nlpkit.text.tokenizer_file.parse`); not to be changed."""
        return parse(self.text)

    @property
    def vocab_size(self) -> int:
        """How many ids there are, special and added tokens included; no id is left out."""
        size: int = self._raw.get_vocab_size(with_added_tokens=True)
        return size

    @property
    def definition(self) -> dict[str, Any]:
        """What of tokenizer.json decides the ids of a whole plain text."""
        return {k: v for k, v in self.body.items() if k not in ("post_processor", "truncation", "padding")}

    @property
    def raw(self) -> Any:
        """The ``tokenizers.Tokenizer`` underneath."""
        return self._raw

    @property
    def fingerprint(self) -> str:
        """SHA-256 of what decides the ids: tokenizer.json without its template, and the recipe before it."""
        if not self._fingerprint:
            canonical = json.dumps(self.definition, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
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
        encoded = self.encodings(
            texts, pairs=pairs, special=special, max_length=max_length, standardized=standardized
        )
        return [e.ids for e in encoded]

    def encodings(
        self,
        texts: Sequence[str],
        *,
        pairs: Sequence[str] | None = None,
        special: bool = False,
        end: int | None = None,
        max_length: int | None = None,
        standardized: bool = False,
        offsets: bool = False,
    ) -> list[Encoded]:
        """Like :meth:`encode`, with what is known of each token beside its id (``offsets``: also its characters).

        ``end`` is put after each text; ``max_length`` counts it too.
        """
        if isinstance(texts, str):
            raise TypeError("encode takes a list of texts, not one text")
        raw = self._raw
        if max_length is not None:
            least = 1 + (end is not None)
            least += raw.num_special_tokens_to_add(pairs is not None) if special else 0
            if max_length < least:
                raise UsageError(
                    f"max_length {max_length} leaves no room for text (at least {least} is needed)"
                )
        if raw.truncation is not None:
            raw.no_truncation()  # a foreign tokenizer.json may cut; here it is said and counted
        if self._standardize and not standardized:
            texts = [self._standardize(t) for t in texts]
            pairs = None if pairs is None else [self._standardize(t) for t in pairs]
        rows: Any = list(texts) if pairs is None else list(zip(texts, pairs, strict=True))
        encode = raw.encode_batch if offsets else raw.encode_batch_fast
        whole = pairs is not None or special or offsets
        long = {} if whole else {i: t for i, t in enumerate(rows) if len(t) > long_texts.LONG}
        with _library("the tokenizer fails on a text"):
            short = ["" if i in long else text for i, text in enumerate(rows)] if long else rows
            made = encode(short, add_special_tokens=special)
            for i, text in long.items():
                joined = self._encode_long(text)
                made[i] = encode([text], add_special_tokens=special)[0] if joined is None else joined
        encoded = [Encoded(e, max_length, end) for e in made]
        if max_length is not None:
            self.truncated += sum(1 for e in encoded if e.cut)
        return encoded

    def _encode_long(self, text: str) -> "long_texts.Joined | None":
        """A long text encoded in pieces; None when its ids could differ. The first run that is cut is told."""
        if not long_texts.can_be_cut(self.body):
            return None
        if self.engine is None and not self._engine_sought and len(text) >= _WORTH_AN_ENGINE:
            from nlpkit.text import fast_encoding

            self._engine_sought = True
            self.engine = fast_encoding.engine_for(self)

        def ids_of(piece: str) -> list[int]:
            ids = None if self.engine is None else self.engine(piece)
            return (
                self._raw.encode_batch_fast([piece], add_special_tokens=False)[0].ids if ids is None else ids
            )

        made, cut = long_texts.encode(text, ids_of, self._all_ids)
        if cut and not self._told:
            self._told = True
            console.warn(
                f"a run of over {long_texts.LONG:,} characters without a space was encoded in pieces of that "
                "length, and so are all such runs"
            )
        return made

    @functools.cached_property
    def _all_ids(self) -> list[int]:
        return list(range(self.vocab_size))

    def decode(self, ids: Sequence[int], *, special: bool = False) -> str:
        """The text of token ids; special tokens are left out unless ``special``."""
        if len(ids) > long_texts.LONG and self._long_decoder is not None:
            return self._long_decoder(ids, special)
        text: str = self._raw.decode(list(ids), skip_special_tokens=not special)
        return text

    @functools.cached_property
    def _long_decoder(self) -> "long_texts.LongDecoder | None":
        decoder = self.body.get("decoder")
        if decoder is None or not long_texts.LongDecoder.knows(decoder):
            return None
        special = {i for i, token in self._raw.get_added_tokens_decoder().items() if token.special}
        return long_texts.LongDecoder(decoder, list(map(self.id_to_token, self._all_ids)), special)

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
            about = {"kind": self.kind, "vocab_size": self.vocab_size, "fingerprint": self.fingerprint}
            about |= notes or {}
            made_with = {"recipe": self.recipe_hash} if self.recipe_hash else {}
            manifest.seal(building, "tokenizer", made_with=made_with, notes=about)

    def export(self, folder: str | Path, *, special: bool = True) -> None:
        """Write tokenizer.json, tokenizer_config.json (and standardize.toml) into an existing folder.

        With ``special`` the written tokenizer adds ``[CLS]`` and ``[SEP]`` by itself, as the models that are
        exported with it expect of ``transformers.AutoTokenizer``. The fingerprint is the same either way.
        """
        folder = Path(folder)
        text = self.text
        if self.ours:
            body = {**self.body, "post_processor": json.loads(_template_text()) if special else None}
            text = json.dumps(body, ensure_ascii=False)  # indented it would take ten times as long
        (folder / FILE).write_text(text, encoding="utf-8")
        (folder / CONFIG_FILE).write_text(json.dumps(self._configuration(), indent=1), encoding="utf-8")
        if self._whole_recipe:
            self._whole_recipe.save(folder / RECIPE_FILE)

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


def _opened(text: str) -> Any:
    from tokenizers import Tokenizer as Raw

    with _library():
        return Raw.from_str(text)


@contextmanager
def _library(what: str = "") -> Iterator[None]:
    """Failures of the library as ours; it raises plain Exception, and its panics are no Exception at all."""
    try:
        yield
    except BaseException as error:
        if type(error) is not Exception and type(error).__name__ != "PanicException":
            raise
        raise ArtifactError(f"{what}: {error}".removeprefix(": ").split("\n")[0][:200]) from error


def _standardizer(recipe: Recipe) -> Callable[[str], str]:
    from nlpkit.text.standardize import Standardizer

    return Standardizer(recipe)
