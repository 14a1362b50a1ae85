"""gensim's preprocess_string (stop words, Porter stems) after its deaccent."""

from gensim.parsing.preprocessing import preprocess_string
from gensim.utils import deaccent
from lines import filter_lines

filter_lines(lambda line: preprocess_string(deaccent(line)))
