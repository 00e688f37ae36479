"""The resource `McpServer`: the models of manifests, one server of them, and what runs for it, as read."""
