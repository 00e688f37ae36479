"""The wire to Redis that limits and cache share: requests in order, answers called back, nothing raised."""
