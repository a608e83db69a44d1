"""Builds of batch groups: made, versioned, current, retained."""
