-- wrk: one tools/call of 200 bytes, over and over. The tool's name is the script's argument.
local tool = ...
function init(args)
  tool = args[1]
  local body = '{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"' .. tool
    .. '","arguments":{"city":"Paris","units":"metric","pad":"'
  body = body .. string.rep('p', 200 - #body - 4) .. '"}}}'
  wrk.method, wrk.body = 'POST', body
  wrk.headers['Content-Type'] = 'application/json'
  wrk.headers['Accept'] = 'application/json, text/event-stream'
  wrk.headers['MCP-Protocol-Version'] = '2026-07-28'
  wrk.headers['Mcp-Method'] = 'tools/call'
  wrk.headers['Mcp-Name'] = tool
  wrk.headers['Host'] = 'localhost'
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format('RESULT %d %d %d\n', summary.requests, summary.duration,
    errors.status + errors.connect + errors.read + errors.write + errors.timeout))
end
