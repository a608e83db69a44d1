"""Building blocks of the batch groups in pure Ibis, so that the same code runs on DuckDB and on Spark.

Imports Ibis, which takes half a second, so group modules import these inside their batch function.
Portability requires two habits: an ordered list is a collected struct that is sorted afterwards (Spark
rejects an ordered collect), and a time span is a difference of microseconds.
"""
