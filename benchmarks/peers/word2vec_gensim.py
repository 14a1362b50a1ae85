"""Skip-gram vectors with negative sampling by gensim: ``python X.py SOURCE TARGET EPOCHS``; prints its CPU seconds.

Default settings of gensim but for the size (100), the least count (5), the window (10) and one worker.
"""

import sys
import time

from gensim.models import Word2Vec
from gensim.models.word2vec import LineSentence

source, target, epochs = sys.argv[1:4]
started = time.process_time()
model = Word2Vec(
    LineSentence(source),
    vector_size=100,
    window=10,
    min_count=5,
    sg=1,
    negative=5,
    epochs=int(epochs),
    workers=1,
)
print(time.process_time() - started)
model.wv.save_word2vec_format(target, binary=True)
