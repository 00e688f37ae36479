"""Who is calling, by key, token, trusted header or address, and from which Host and Origin.

`call` asks for each head, `limits` and `cache` go by the answer. It refuses by a Caller without a client,
with the words for a person. Pure, but for the keys of an issuer, which `tokens` fetches.
"""
