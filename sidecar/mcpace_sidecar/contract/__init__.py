"""What the sidecar and the operator agree on, and all that the operator may import.

The configuration, quantities, addresses, what runs inside Redis, how statistics are counted. It knows no
connection and no call.
"""
