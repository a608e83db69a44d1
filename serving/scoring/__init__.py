"""From features to scores: signals, blend, orders. No HTTP, no Feast."""
