"""Runs compared: from their masks and features to layer matrices, findings and pictures."""
