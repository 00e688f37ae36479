"""How many calls the server has at once: slots, a queue with a deadline, a circuit breaker. Pure."""
