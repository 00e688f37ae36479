"""Which results may be answered again, to whom, and for how long."""
