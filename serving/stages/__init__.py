"""The stages of a ranking, one file per kind; `serving.rank` runs them."""
