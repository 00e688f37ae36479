"""The port for operators and probes: health, metrics, statistics, configuration, calls in flight.

`process` listens with it; kubelets, Prometheus, the operator and people ask. It answers nobody who has no
token what is not open (401), and on the loopback no page of elsewhere (403).
"""
