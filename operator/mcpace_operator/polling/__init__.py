"""What asks pods: who their server is, how it performs, what it uses. Never in a reconcile's way."""
