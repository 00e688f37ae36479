-- wrk: one tools/call of 200 bytes, over and over. The tool's name is the script's argument; a
-- second argument, "unique", gives every request a traceparent of its own.
local tool, unique, count = nil, false, 0
function init(args)
  tool, unique = args[1], args[2] == 'unique'
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
  if unique then
    wrk.headers['traceparent'] = '00-TRACE' .. string.rep('0', 27) .. '-00f067aa0ba902b7-01'
    local whole = wrk.format()
    local at = whole:find('TRACE')
    local before, after = whole:sub(1, at - 1), whole:sub(at + 16)
    request = function()
      count = count + 1
      return before .. string.format('%016x', count) .. after
    end
  end
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format('RESULT %d %d %d\n', summary.requests, summary.duration,
    errors.status + errors.connect + errors.read + errors.write + errors.timeout))
end
