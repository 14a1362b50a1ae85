"""NLTK's Snowball stemmer after NFKD, lower case, a regular expression for words and scikit-learn's stop words."""

import re

from lines import filter_lines, plain
from nltk.stem.snowball import SnowballStemmer
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

stem = SnowballStemmer("english").stem
words = re.compile(r"[^\W_]+").findall
filter_lines(lambda line: [stem(w) for w in words(plain(line)) if w not in ENGLISH_STOP_WORDS])
