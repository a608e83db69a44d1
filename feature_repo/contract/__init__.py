"""The event contract: records, their columns, validation, and which version may follow which."""
