-- Gives back the charges of calls that were leased and not made. Arguments as of take.lua,
-- and at last the midnight, in seconds, that ends the day they were taken on.
-- What is not there any more (a full bucket, a day past, a Redis that forgot) needs nothing back.
local today = tonumber(redis.call('TIME')[1]) < tonumber(ARGV[#ARGV])
for i, key in ipairs(KEYS) do
  local amount = tonumber(ARGV[1]) * tonumber(ARGV[3 * i + 1])
  if tonumber(ARGV[3 * i - 1]) == 0 then
    local used = tonumber(redis.call('GET', key) or 0)
    if today and used > 0 then redis.call('INCRBY', key, -math.min(used, amount)) end
  else
    local tokens = redis.call('HGET', key, 'tokens')
    if tokens then
      local level = math.min(tonumber(ARGV[3 * i]), tonumber(tokens) + amount)
      redis.call('HSET', key, 'tokens', string.format('%.17g', level))
    end
  end
end
return 0
