"""Sessions of the handshake era: sealed ids, what is known of each, how a lost one is begun again."""
