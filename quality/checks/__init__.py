"""Contracts as checks: suites derived from declarations, measured in DuckDB, judged by Great Expectations."""
