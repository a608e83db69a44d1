"""Drift, behaviour, parity and status."""
