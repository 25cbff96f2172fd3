"""AdaCos: nothing of its own is tuned, its scale follows the data."""

from search_spaces.common import SearchSpace

ADACOS = SearchSpace("adacos")
