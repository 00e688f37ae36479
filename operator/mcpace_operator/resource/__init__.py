"""The resource `McpServer`: the models that people's manifests are read with, and one server of them."""
