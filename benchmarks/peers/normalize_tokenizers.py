"""NFKD, no marks, lower case by the normalizers of the tokenizers library."""

from lines import map_lines
from tokenizers import Regex, normalizers

map_lines(
    normalizers.Sequence(
        [normalizers.NFKD(), normalizers.Lowercase(), normalizers.Replace(Regex(r"\p{Mn}"), "")]
    ).normalize_str
)
