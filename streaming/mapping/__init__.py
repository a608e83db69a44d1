"""Other people's files: which of their columns is which field, written as TOML, read row by row."""
