-- Takes all charges of some calls, or as many calls as fit, or none, on this server's clock.
-- KEYS: one per charge. ARGV: calls wanted, then kind ("bucket" | "quota"), capacity, amount of each.
-- Returns {calls granted, microseconds until one more fits, index of the charge that waits longest,
-- microseconds until the UTC day ends, that midnight in seconds, then what is left of each charge in
-- thousandths}.
local t = redis.call('TIME')
local seconds, now = tonumber(t[1]), tonumber(t[1]) * 1000000 + tonumber(t[2])
local midnight = (math.floor(seconds / 86400) + 1) * 86400
local levels, ats, calls = {}, {}, tonumber(ARGV[1])
for i, key in ipairs(KEYS) do
  local capacity, amount = tonumber(ARGV[3 * i]), tonumber(ARGV[3 * i + 1])
  if ARGV[3 * i - 1] == 'quota' then
    levels[i] = capacity - tonumber(redis.call('GET', key) or 0)
  else
    local level = redis.call('HMGET', key, 'tokens', 'at')
    levels[i], ats[i] = capacity, now
    if level[1] then
      ats[i] = math.max(now, tonumber(level[2])) -- no time refills twice, even if the clock goes back
      local refill = math.max(0, now - tonumber(level[2])) * capacity / 60000000
      levels[i] = math.min(capacity, tonumber(level[1]) + refill)
    end
  end
  calls = math.min(calls, math.floor(levels[i] / amount))
end
calls = math.max(0, calls)
local answer = {calls, 0, 0, midnight * 1000000 - now, midnight}
for i, key in ipairs(KEYS) do
  local capacity, amount = tonumber(ARGV[3 * i]), tonumber(ARGV[3 * i + 1])
  local taken, quota = calls * amount, ARGV[3 * i - 1] == 'quota'
  local missing = amount - levels[i] + taken
  if missing > 0 then
    local wait = quota and midnight * 1000000 - now or math.ceil(missing * 60000000 / capacity)
    if wait > answer[2] then answer[2], answer[3] = wait, i end
  end
  if taken > 0 then
    if quota then
      redis.call('INCRBY', key, taken)
      redis.call('EXPIREAT', key, midnight)
    else
      redis.call('HSET', key, 'tokens', string.format('%.17g', levels[i] - taken), 'at', string.format('%.0f', ats[i]))
      redis.call('PEXPIRE', key, 60000)
    end
  end
  answer[5 + i] = math.floor((levels[i] - taken) * 1000)
end
return answer
