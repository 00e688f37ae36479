"""The control plane: turns each McpServer into a Deployment with the sidecar in it."""
