"""The options of both programs, a YAML each; Hydra finds them where the package is installed."""
