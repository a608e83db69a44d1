"""What Dagster's UI shows of columns, where they come from, and links."""
