"""What the sidecar and the operator agree on, and all that the operator may import.

The configuration and its rules, quantities, addresses, the environment, a sidecar's options, ports and
paths, what it reports, what runs inside Redis. It knows no connection and no call.
"""
