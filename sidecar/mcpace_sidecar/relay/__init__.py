"""Between the sidecars of one server: whose session it is not passes a call on to whose it is.

Mutual TLS by a certificate that each derives from the server's key; nothing is read of who has none.
"""
