"""The pure core of the stream: session and user folds, their shards and state."""
