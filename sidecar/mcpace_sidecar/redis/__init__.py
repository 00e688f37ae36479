"""The wire to Redis that limits, results and conversations share.

`process` makes a link for each store, and the stores' Redis twins ask. Requests go out in order and answers
are called back; nothing is raised, and nobody waits for a Redis that is down: whoever asks is handed a
StoreError at once.
"""
