"""Feast's offline store over Parquet with DuckDB's ASOF joins: `feature_repo.offline.offline_store`.

Pure functions build the SQL (`point_in_time`, `pulls`); `frames` loads entity rows into DuckDB, `retrieval`
runs a query and streams its rows, `store` is the class named in ``feature_store.yaml``.
"""
