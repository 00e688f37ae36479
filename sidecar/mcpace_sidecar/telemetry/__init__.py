"""What is told of calls: tallies, which metrics and statistics read, the log, spans, faults inside."""
