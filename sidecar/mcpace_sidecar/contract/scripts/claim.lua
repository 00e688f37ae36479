-- Takes a session over from the owner and epoch that were seen, and returns its record as it is then.
-- KEYS[1]: its hash. ARGV: owner and epoch seen, seconds it is kept, seconds after which a claim without a
-- session is abandoned, then the number of fields, their names, and what is kept where there is no record.
-- Returns {1 if it was ended, then the fields}.
local known = redis.call('HMGET', KEYS[1], 'owner', 'epoch', 'inner', 'claimed', 'ended')
if known[5] then return {1} end
local epoch, seen = tonumber(known[2] or -1), tonumber(ARGV[2])
local now = tonumber(redis.call('TIME')[1])
local count = tonumber(ARGV[5])
local names, mine = {}, {}
for i = 1, count do
  names[i], mine[ARGV[5 + i]] = ARGV[5 + i], ARGV[5 + count + i]
end
local abandoned = known[3] == '' and now - tonumber(known[4] or 0) >= tonumber(ARGV[4])
if not known[1] then
  for name, value in pairs(mine) do redis.call('HSET', KEYS[1], name, value) end
end
local function place(owner) return string.match(owner, '^(.*) ') end
local was_seen = known[1] and epoch == seen and place(known[1]) == place(ARGV[1])
if not known[1] or epoch < seen or was_seen or abandoned then
  redis.call('HSET', KEYS[1], 'owner', mine.owner, 'epoch', string.format('%d', math.max(epoch, seen) + 1),
    'inner', '', 'claimed', now)
  redis.call('EXPIRE', KEYS[1], ARGV[3])
end
local answer = {0}
for i, value in ipairs(redis.call('HMGET', KEYS[1], unpack(names))) do answer[1 + i] = value or '' end
return answer
