-- wrk: tools/call over and over, each under an id of its own. Arguments:
--   tool=NAME    the tool; a name that ends with % is completed with a number below tools
--   size=BYTES   of the body (200)
--   unique=1     a traceparent of its own for every request
--   request=1    an X-Request-Id of its own for every request
--   gateway=1    what a gateway adds: both of these, an argument as a header, six lines that stay
--   clients=N    a header X-Consumer-Username, one of N
--   tools=N      how many names a tool with % has
--   session=ID   in a session of the handshake era, with arguments that the tool echo has
--   city=N       one of N arguments (100), so that bodies and results differ
--   mix=1        every kind of call by turns, as the soak test sends them
local options = {tool = 'plain', size = 200, clients = 0, tools = 0, city = 100}
local shapes, count, draw = {}, 0, 0

-- One kind of request: its pieces, with functions where something differs from call to call.
local function shape(o)
  local name = o.tool:gsub('%%', '\1TOOL')
  local city = '\1CITY'
  local body = '{"jsonrpc":"2.0","id":\1NUMBER,"method":"tools/call","params":{"name":"' .. name
    .. '","arguments":{"city":"' .. city .. '","units":"metric","pad":"'
  body = body .. string.rep('p', math.max(0, o.size - #body - 4)) .. '"}}}'
  if o.session then
    body = '{"jsonrpc":"2.0","id":\1NUMBER,"method":"tools/call","params":{"name":"' .. name
      .. '","arguments":{"message":"' .. string.rep('m', 64) .. '"}}}'
  end
  local headers = {
    ['Content-Type'] = 'application/json', ['Accept'] = 'application/json, text/event-stream',
    ['MCP-Protocol-Version'] = '2026-07-28', ['Mcp-Method'] = 'tools/call', ['Mcp-Name'] = name,
    ['Host'] = 'localhost',
  }
  if o.session then
    headers['MCP-Protocol-Version'], headers['Mcp-Session-Id'] = '2025-11-25', o.session
    headers['Mcp-Method'], headers['Mcp-Name'] = nil, nil
  end
  if o.unique or o.gateway then headers['traceparent'] = '00-\1TRACE0000000000-00f067aa0ba902b7-01' end
  if o.request or o.gateway then headers['X-Request-Id'] = '\1TRACE-4a7f-9c31' end
  if o.gateway then
    headers['Mcp-Param-City'] = city
    headers['X-Forwarded-For'] = '203.0.113.7'
    headers['X-Forwarded-Proto'] = 'https'
    headers['X-Forwarded-Host'] = 'mcp.example.com'
    headers['X-Real-IP'] = '203.0.113.7'
    headers['Via'] = '1.1 gateway'
    headers['User-Agent'] = 'mcp-client/2.3 (typescript)'
  end
  if (o.clients or 0) > 0 then headers['X-Consumer-Username'] = '\1CLIENT' end
  -- Every mark stands for as many bytes as it has itself, or the length would be another's.
  local whole = wrk.format('POST', nil, headers, body)
  local made = {
    NUMBER = function() return string.format('%d', 1000000 + count % 9000000) end,
    TOOL = function() return string.format('%05d', draw % o.tools) end,
    CITY = function() return string.format('%05d', draw % (o.city or options.city)) end,
    TRACE = function() return string.format('%022x', count) end,
    CLIENT = function() return string.format('%07d', math.random(o.clients) - 1) end,
  }
  local pieces, at = {}, 1
  for start, mark, stop in whole:gmatch('()\1(%u+)()') do
    pieces[#pieces + 1] = whole:sub(at, start - 1)
    pieces[#pieces + 1] = made[mark]
    at = stop
  end
  pieces[#pieces + 1] = whole:sub(at)
  return pieces
end

local function write(pieces)
  if #pieces == 1 then return pieces[1] end
  local written = {}
  for i, piece in ipairs(pieces) do written[i] = type(piece) == 'string' and piece or piece() end
  return table.concat(written)
end

function init(args)
  for _, arg in ipairs(args) do
    local name, value = arg:match('^(%w+)=(.*)$')
    options[name] = name ~= 'session' and tonumber(value) or value
  end
  math.randomseed(7)
  if options.mix then
    local clients = options.clients
    local function add(times, o)
      o.size, o.clients = o.size or 200, o.clients or clients
      for _ = 1, times do shapes[#shapes + 1] = shape(o) end
    end
    add(6, {tool = 'plain'})
    add(3, {tool = 'plain', unique = true})
    add(4, {tool = 'cached', city = 2000})
    add(2, {tool = 'mine', city = 100})
    add(2, {tool = 'events'})
    add(1, {tool = 'paged'})
    add(1, {tool = 'failing'})
    add(1, {tool = 'answer30000'})
    add(1, {tool = 'plain', size = 20000})
    add(1, {tool = 'scarce', clients = 10})
  else
    shapes[1] = shape(options)
  end
end

function request()
  count, draw = count + 1, math.random(1073741824)
  return write(shapes[count % #shapes + 1])
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format('RESULT %d %d %d %d\n', summary.requests, summary.duration,
    errors.status + errors.connect + errors.read + errors.write + errors.timeout, latency:percentile(50)))
end
