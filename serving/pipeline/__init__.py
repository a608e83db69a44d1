"""The stages of a ranking, and the runner that orders, times and guards them."""
