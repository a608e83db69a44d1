"""Metrics, circuit breaker and safe logging."""
