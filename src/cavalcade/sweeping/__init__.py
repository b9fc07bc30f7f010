"""Many visits: a process for each job, what became of it, and what all will cost."""
