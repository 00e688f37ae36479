"""The port for operators and probes: health, metrics, statistics, the configuration in use."""
