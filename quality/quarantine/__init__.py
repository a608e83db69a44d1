"""Rejected records with their reasons: kept byte for byte, listed, and replayed after a fix."""
