"""Training sets: what was shown, what came of it, and the features as of the decision.

`examples` is the SQL of slots and labels, `sessions` folds the session rows, `logged` reads what was served,
`assemble` joins them point in time, `split` cuts by time, `card` says what the set is. `dataset` runs it all.
"""
