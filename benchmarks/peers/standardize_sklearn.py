"""scikit-learn's analyzer (Unicode accents off, stop words) and PyStemmer."""

import Stemmer
from lines import filter_lines
from sklearn.feature_extraction.text import CountVectorizer

stem = Stemmer.Stemmer("english", 0).stemWords
analyze = CountVectorizer(strip_accents="unicode", stop_words="english").build_analyzer()
filter_lines(lambda line: stem(analyze(line)))
