"""The lake: Parquet by kind and event day."""
