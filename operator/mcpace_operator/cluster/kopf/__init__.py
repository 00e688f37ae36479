"""kopf, tamed: it watches, and what it sees marks a key. Nothing else knows it.

Called by the operator's start, which takes events and gaps from it. It refuses to store, to retry and to
act: what it hands over is looked at elsewhere.
"""
