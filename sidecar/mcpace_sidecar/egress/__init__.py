"""Doors on the loopback for the server's own calls: pooled, and with TLS from here on."""
