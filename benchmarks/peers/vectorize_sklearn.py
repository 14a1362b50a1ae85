"""A document-term matrix by scikit-learn, saved as CSR: ``python X.py SOURCE TARGET tf-idf|count LEAST MOST``."""

import json
import sys

import scipy.sparse
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer

source, target, mode, least, most = sys.argv[1:6]
kind = {"tf-idf": TfidfVectorizer, "count": CountVectorizer}[mode]
vectorizer = kind(strip_accents="unicode", token_pattern=r"[^\W_]+", ngram_range=(int(least), int(most)))
with open(source, encoding="utf-8", newline="\n") as file:
    made = vectorizer.fit_transform(line.removesuffix("\n") for line in file)
scipy.sparse.save_npz(target, made, compressed=False)
with open(target.removesuffix("npz") + "terms.json", "w", encoding="utf-8") as file:
    json.dump(list(vectorizer.get_feature_names_out()), file)
