"""One server, from what is observed to what should be."""
