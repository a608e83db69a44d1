"""HTTP routes, one file per noun, and what they share."""
