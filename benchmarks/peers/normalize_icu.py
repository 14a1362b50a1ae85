"""NFKD, lower case, no marks by PyICU."""

from icu import Transliterator
from lines import map_lines

map_lines(Transliterator.createInstance("NFKD; Lower; [:Mn:] Remove").transliterate)
