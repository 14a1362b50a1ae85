"""gensim's figures as JSON: ``python vectors_gensim.py VECTORS QUESTIONS PAIRS...``."""

import json
import sys

from gensim.models import KeyedVectors

vectors = KeyedVectors.load_word2vec_format(sys.argv[1], binary=True)
accuracy, sections = vectors.evaluate_word_analogies(sys.argv[2])
pairs = [vectors.evaluate_word_pairs(name) for name in sys.argv[3:]]
print(
    json.dumps(
        {
            "accuracy": accuracy,
            "sections": [[len(s["correct"]), len(s["correct"]) + len(s["incorrect"])] for s in sections[:-1]],
            "spearman": [float(found[1][0]) for found in pairs],
            "pearson": [float(found[0][0]) for found in pairs],
            "unknown": [found[2] / 100 for found in pairs],
        }
    )
)
