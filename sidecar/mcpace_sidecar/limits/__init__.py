"""How much a client may call: plan, buckets and leases, and where levels are kept."""
