"""From outside into the log, and from the log into the lake."""
