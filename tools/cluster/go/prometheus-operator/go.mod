// Prometheus Operator's CRDs for the tests, pinned; nothing of it is built.
module mcpace.dev/tests/cluster/prometheus-operator

go 1.26.0

require github.com/prometheus-operator/prometheus-operator v0.85.0
