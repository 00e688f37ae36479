// Command stdio is an MCP server that speaks over its standard input and output, without a libc.
package main

import (
	"bufio"
	"encoding/json"
	"os"
)

type message struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params struct {
		ProtocolVersion string `json:"protocolVersion"`
	} `json:"params"`
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(make([]byte, 1<<16), 8<<20)
	out := json.NewEncoder(os.Stdout)
	calls := 0
	for lines.Scan() {
		var asked message
		if json.Unmarshal(lines.Bytes(), &asked) != nil || asked.ID == nil {
			continue
		}
		said := map[string]any{"jsonrpc": "2.0", "id": asked.ID}
		switch asked.Method {
		case "initialize":
			said["result"] = map[string]any{
				"protocolVersion": asked.Params.ProtocolVersion,
				"capabilities":    map[string]any{"tools": map[string]any{}},
				"serverInfo":      map[string]any{"name": "static", "version": "1"},
			}
		case "ping":
			said["result"] = map[string]any{}
		case "tools/list":
			schema := map[string]any{"type": "object"}
			said["result"] = map[string]any{"tools": []any{map[string]any{"name": "count", "inputSchema": schema}}}
		case "tools/call":
			calls++
			said["result"] = map[string]any{
				"content":           []any{map[string]any{"type": "text", "text": "counted"}},
				"structuredContent": map[string]any{"calls": calls},
			}
		default:
			said["error"] = map[string]any{"code": -32601, "message": "Method not found"}
		}
		if out.Encode(said) != nil {
			return
		}
	}
}
