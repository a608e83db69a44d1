"""Training sets: what was shown, the outcome, and the features as of the decision.

`examples` is the SQL of slots and labels, `sessions` folds the session rows, `logged` reads the served rows,
`assemble` joins them point in time, `split` cuts by time, `card` describes the set. `dataset` runs it all.
"""
