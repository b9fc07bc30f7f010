"""The two programs: `train` reduces networks to run folders, `compare` compares those."""
