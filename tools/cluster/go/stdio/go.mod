module mcpace.dev/tests/cluster/stdio

go 1.25.0
