"""Who is calling, by key, token, trusted header or address, and from which Host and Origin.

Pure, but for the keys of an issuer, which `tokens` fetches.
"""
