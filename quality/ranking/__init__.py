"""Ranking metrics and their intervals."""
