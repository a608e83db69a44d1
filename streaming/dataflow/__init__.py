"""The Bytewax shell around the folds: source, operators, sink, service."""
