"""Decision records: written, found, replayed, explained."""
