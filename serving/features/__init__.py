"""Reads online features within a time budget."""
