"""What is told of calls: the one record of each, metrics, statistics, the log, spans, faults inside."""
