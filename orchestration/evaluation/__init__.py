"""Replays a history, fits the blend, and compares arms."""
