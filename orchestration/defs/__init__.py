"""Dagster's nouns, one module each; `orchestration.definitions` puts them together."""
