-- One exchange of a worker process with one scope: give back, report, take. All at once, by the server's clock.
-- KEYS[1]: hash of the scope.  ARGV: a flat list of name, value.
--   process, ttl_ms                       who asks, and how long its concurrency grant lives without a further word
--   requests_limit, tokens_limit          per minute; 0: none          concurrency_limit  0: none
--   requests, tokens                      wanted now                   least_tokens       of the first waiting job
--   refund_requests, refund_tokens        taken before and not used; negative: used and not taken
--   slots, busy                           calls in flight and waiting; those in flight
--   answers                               x, then 0 (fine) or 1 (a 429) for each answer since the last exchange
--   floor_ms, force                       longest wait that a 429 named; force: it rests the scope at once
--   urgent, urgent_ms                     1: what is wanted and not granted is kept from all others for so long
-- Returns requests, tokens, slots granted, ms until the next request may be granted, ms that the scope rests.
local arg = {}
for i = 1, #ARGV, 2 do arg[ARGV[i]] = tonumber(ARGV[i + 1]) or ARGV[i + 1] end
local key, time = KEYS[1], redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function bucket(name, limit, refund)
  if limit == 0 then return math.huge, 0 end
  local rate = limit / 60000
  local capacity = math.max(1, limit / 60)
  local stored = redis.call('HMGET', key, name .. '.level', name .. '.at')
  local level, at = tonumber(stored[1]), tonumber(stored[2])
  if not level then return capacity + math.min(0, refund), rate, capacity end
  return math.min(capacity, level + math.max(0, now - at) * rate + refund), rate, capacity
end

local function keep(name, limit, level)
  if limit == 0 then return 0 end
  redis.call('HSET', key, name .. '.level', tostring(level), name .. '.at', now)
  return math.ceil((math.max(1, limit / 60) - level) * 60000 / limit)
end

local answers = string.sub((redis.call('HGET', key, 'answers') or '') .. string.sub(arg.answers, 2), -50)
local _, refused = string.gsub(answers, '1', '')
local episode = refused >= 5 and refused > 0.2 * #answers
local floor = tonumber(redis.call('HGET', key, 'floor')) or 0
if (episode or arg.force == 1) and arg.floor_ms > 0 then floor = math.max(floor, now + arg.floor_ms) end
redis.call('HSET', key, 'answers', answers, 'floor', floor)
local rest = math.max(0, floor - now)

-- What urgent processes wait for. Between two of them the first come is served.
local kept_requests, kept_tokens, kept_slots = 0, 0, {}
local urgent = redis.call('HGETALL', key .. ':urgent')
for i = 1, #urgent, 2 do
  local requests, tokens, slots, expires = string.match(urgent[i + 1], '(%d+) (%d+) (%d+) (%d+)')
  if tonumber(expires) < now then
    redis.call('HDEL', key .. ':urgent', urgent[i])
  elseif urgent[i] ~= arg.process and arg.urgent == 0 then
    kept_requests, kept_tokens = kept_requests + tonumber(requests), kept_tokens + tonumber(tokens)
    kept_slots[urgent[i]] = tonumber(slots)
  end
end

local requests_level, requests_rate = bucket('requests', arg.requests_limit, arg.refund_requests)
local tokens_level, tokens_rate, tokens_capacity = bucket('tokens', arg.tokens_limit, arg.refund_tokens)
local requests, tokens, wait = 0, 0, rest
if arg.requests > 0 and rest == 0 then
  requests = math.max(0, math.min(arg.requests, math.floor(requests_level - kept_requests)))
  if requests < 1 then
    local missing = math.ceil((1 + kept_requests - requests_level) / requests_rate)
    wait = math.max(wait, kept_requests > 0 and math.min(1000, missing) or missing)
  end
end
-- Tokens are also wanted alone: for requests that were granted before, when there were none.
local wants_tokens = arg.tokens_limit > 0 and math.max(arg.tokens, arg.least_tokens) > 0
if wants_tokens and rest == 0 and (requests > 0 or arg.requests == 0) then
  -- A job larger than the whole bucket passes when the bucket is full, and leaves a debt.
  local least = math.min(arg.least_tokens, tokens_capacity)
  if tokens_level - kept_tokens < least then
    local missing = math.ceil((least + kept_tokens - tokens_level) / tokens_rate)
    requests, wait = 0, math.max(wait, kept_tokens > 0 and math.min(1000, missing) or missing)
  else
    tokens = math.max(arg.least_tokens, math.min(arg.tokens, tokens_level - kept_tokens))
  end
end
local requests_full = keep('requests', arg.requests_limit, requests_level - requests)
local tokens_full = keep('tokens', arg.tokens_limit, tokens_level - tokens)

local slots = arg.slots
if arg.concurrency_limit > 0 then
  local others, wanting = 0, 1
  local rows = redis.call('HGETALL', key .. ':slots')
  for i = 1, #rows, 2 do
    local granted, wanted, expires = string.match(rows[i + 1], '(%d+) (%d+) (%d+)')
    if tonumber(expires) < now then
      redis.call('HDEL', key .. ':slots', rows[i])
    elseif rows[i] ~= arg.process then
      wanting = wanting + (tonumber(wanted) > 0 and 1 or 0)
    end
  end
  local fair = math.floor(arg.concurrency_limit / wanting)
  rows = redis.call('HGETALL', key .. ':slots')
  for i = 1, #rows, 2 do
    if rows[i] ~= arg.process then
      local granted, wanted = string.match(rows[i + 1], '(%d+) (%d+)')
      local share = arg.urgent == 1 and 0 or math.min(tonumber(wanted), fair)
      others = others + math.max(share, granted + (kept_slots[rows[i]] or 0))
    end
  end
  slots = math.max(0, math.min(arg.slots, arg.concurrency_limit - others))
  -- Calls in flight above the grant keep their places until they end: nobody else may have those yet.
  local held = math.max(slots, arg.busy)
  redis.call('HSET', key .. ':slots', arg.process, held .. ' ' .. arg.slots .. ' ' .. (now + arg.ttl_ms))
  redis.call('PEXPIRE', key .. ':slots', 600000)
end
if arg.urgent == 1 then
  local wanted_requests = arg.requests_limit > 0 and arg.requests - requests or 0
  local wanted_tokens = wants_tokens and math.max(0, math.max(arg.tokens, arg.least_tokens) - tokens) or 0
  local wanted_slots = arg.slots - slots
  if wanted_requests + wanted_tokens + wanted_slots > 0 then
    local row = string.format(
      '%.0f %.0f %.0f %.0f', wanted_requests, math.ceil(wanted_tokens), wanted_slots, now + arg.urgent_ms
    )
    redis.call('HSET', key .. ':urgent', arg.process, row)
    redis.call('PEXPIRE', key .. ':urgent', arg.urgent_ms)
  else
    redis.call('HDEL', key .. ':urgent', arg.process)
  end
end
-- Forgotten only when nothing is owed any more: then a missing bucket starts no fuller than this one would be.
redis.call('PEXPIRE', key, 600000 + math.max(rest, requests_full, tokens_full))
return {requests, tostring(tokens), slots, wait, rest}
