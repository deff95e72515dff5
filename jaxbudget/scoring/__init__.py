"""What is worth keeping: scores of samples, and subsets chosen by them.

`dynamics` records what training says of every sample and scores the record, `trained` scores
by a trained model, `distances` by where its features lie, `table` names them all; `choices`
turns scores into a subset, of all or, by `quotas`, of each class. Everywhere a high score is
a sample to keep first.
"""
