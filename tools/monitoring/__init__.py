"""What the chart brings for monitoring: dashboards of Grafana, and the rules of the operator and Redis."""
