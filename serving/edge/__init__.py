"""Connections and what clients may take of them."""
