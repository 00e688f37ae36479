"""How many calls a client may make: buckets per minute, quotas per day, tiers and tools."""
