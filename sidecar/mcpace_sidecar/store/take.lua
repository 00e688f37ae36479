-- Takes all charges of one call, or none, on this server's clock.
-- KEYS: one per charge. ARGV: kind ("bucket" | "quota"), capacity, amount, for each.
-- Returns {0, 0}, or {microseconds until the call would fit, index of the charge that waits longest}.
local t = redis.call('TIME')
local seconds, now = tonumber(t[1]), tonumber(t[1]) * 1000000 + tonumber(t[2])
local midnight = (math.floor(seconds / 86400) + 1) * 86400
local levels, ats, wait, index = {}, {}, 0, 0
for i, key in ipairs(KEYS) do
  local capacity, amount = tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i])
  local missing = 0
  if ARGV[3 * i - 2] == 'quota' then
    levels[i] = tonumber(redis.call('GET', key) or 0)
    if levels[i] + amount > capacity then missing = midnight * 1000000 - now end
  else
    local level = redis.call('HMGET', key, 'tokens', 'at')
    levels[i], ats[i] = capacity, now
    if level[1] then
      ats[i] = math.max(now, tonumber(level[2])) -- no time refills twice, even if the clock goes back
      local refill = math.max(0, now - tonumber(level[2])) * capacity / 60000000
      levels[i] = math.min(capacity, tonumber(level[1]) + refill)
    end
    if levels[i] < amount then missing = math.ceil((amount - levels[i]) * 60000000 / capacity) end
  end
  if missing > wait then wait, index = missing, i end
end
if wait > 0 then return {wait, index} end
for i, key in ipairs(KEYS) do
  local capacity, amount = tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i])
  if ARGV[3 * i - 2] == 'quota' then
    redis.call('INCRBY', key, amount)
    redis.call('EXPIREAT', key, midnight)
  else
    redis.call('HSET', key, 'tokens', string.format('%.17g', levels[i] - amount), 'at', string.format('%.0f', ats[i]))
    redis.call('PEXPIRE', key, 60000)
  end
end
return {0, 0}
