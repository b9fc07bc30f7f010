"""Pictures, tables and tracking: the only place that knows matplotlib, rich and wandb."""
