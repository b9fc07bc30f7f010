"""A visit to a network: reduced, on a data set, to a run folder."""
