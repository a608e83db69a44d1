"""Feast's offline store over Parquet with DuckDB's ASOF joins: `feature_repo.offline.offline_store`.

The SQL is built by pure functions (`point_in_time`, `pulls`); `frames` brings entity rows into DuckDB,
`retrieval` runs a query and streams its rows, `store` is the class that ``feature_store.yaml`` names.
"""
