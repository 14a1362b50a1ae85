"""RM3: a query grows by the terms of the documents that it finds first.

A relevance model is a distribution over terms, P(t|R) ∝ Σ over the first documents d of P(t|d) · P(q|d) (Lavrenko and
Croft, "Relevance-Based Language Models", 2001, method 1). RM3 mixes its strongest terms with the query (Abdul-Jaleel
et al., "UMass at TREC 2004"). As in Anserini, the share of d's BM25 score stands for P(q|d), and its term frequencies,
of its strongest terms, for P(t|d); terms that too many documents hold, and terms that are no words, are left out.

RM3 finds more of what is relevant, and costs a second search; a first list that is wrong leads it astray.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from nlpkit.search.bm25 import BM25, Query, weights

#: From positions (n,) to the terms of each of those documents.
TermsOf = Callable[[np.ndarray], Iterable[Sequence[str]]]

_FREQUENT = 0.1  # share of the documents that hold a term, above which it says nothing
_LENGTHS = range(2, 21)  # characters of a term


def expand(
    bm25: BM25,
    query: Query,
    terms_of: TermsOf,
    *,
    documents: int = 10,
    terms: int = 10,
    weight: float = 0.5,
    allowed: np.ndarray | None = None,
    owner: np.ndarray | None = None,
) -> dict[str, float]:
    """The query's terms and ``terms`` more, with weights whose sum is 1, to be asked of ``bm25`` in its place.

    ``documents`` is how many of the first results are taken for relevant, ``weight`` the share of the query itself;
    ``allowed`` and ``owner`` are those of :meth:`BM25.top`. Where nothing is found, the query comes back alone.

    >>> index = BM25()
    >>> texts = [["cat", "purr"], ["cat", "purr", "milk"], ["dog", "bark"]] + [["fish"]] * 27
    >>> index.add(texts)
    >>> grown = expand(index, ["cat"], lambda at: [texts[i] for i in at])
    >>> list(grown), round(grown["cat"], 2), index.top(grown, 2)[0].tolist()
    (['cat', 'purr', 'milk'], 0.71, [0, 1])
    """
    asked = weights(query)
    whole = sum(asked.values())
    if not asked:
        return {}
    found, scores = bm25.top(asked, documents, allowed, owner)
    relevance: defaultdict[str, float] = defaultdict(float)
    most = _FREQUENT * bm25.documents
    frequent: dict[str, bool] = {}

    def tells(term: str) -> bool:
        if term not in frequent:
            frequent[term] = bm25.frequency(term) > most
        return not frequent[term]

    for text, score in zip(terms_of(found), scores.tolist(), strict=True):
        counted = Counter(t for t in text if len(t) in _LENGTHS and t.isalnum())
        strongest = _strongest({t: n for t, n in counted.items() if tells(t)}, terms)
        size = sum(strongest.values())
        for term, times in strongest.items():
            relevance[term] += times / size * score
    model = _strongest(relevance, terms)
    size = sum(model.values())
    share = weight if model else 1.0
    mixed = {term: share * times / whole for term, times in asked.items()}
    for term, value in model.items():
        mixed[term] = mixed.get(term, 0.0) + (1 - share) * value / size
    return {term: value for term, value in mixed.items() if value > 0}


def _strongest(values: Mapping[str, float], many: int) -> dict[str, float]:
    """The largest values, equal ones by term, so that an expansion never depends on the order of words."""
    return dict(sorted(values.items(), key=lambda pair: (-pair[1], pair[0]))[:many])
