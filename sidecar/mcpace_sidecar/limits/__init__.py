"""How much a client may call: plan, buckets and leases, and where levels are kept.

`call` takes for each counted message, and is refused by a Verdict that says when to come again; without
Redis it is decided as the manifest chose, and never by an exception.
"""
