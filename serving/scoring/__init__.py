"""Computes scores from features: signals, blend, orders. No HTTP, no Feast."""
