"""HTTP routes, one file per noun, and their shared helpers."""
