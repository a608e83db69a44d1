"""Building blocks of the batch groups: pure Ibis, so that the same code runs on DuckDB and on Spark.

Imports Ibis, which takes half a second: group modules import these inside their batch function. Portability
costs two habits: an ordered list is a collected struct sorted afterwards (Spark refuses an ordered
collect), and a time span is a difference of microseconds.
"""
