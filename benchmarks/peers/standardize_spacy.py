"""A blank spaCy pipeline and PyStemmer, after NFKD and lower case."""

import spacy
import Stemmer
from lines import filter_lines, plain

make = spacy.blank("en")
make.max_length = 10**9
stem = Stemmer.Stemmer("english", 0).stemWord
filter_lines(
    lambda line: [
        stem(t.text) for t in make.make_doc(plain(line)) if not (t.is_stop or t.is_punct or t.is_space)
    ]
)
