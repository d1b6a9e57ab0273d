-- One exchange of a worker process with one scope: report, correct, give back, take. All at once, by the server's clock.
-- KEYS: the scope; its processes; then, for each quota in the order of QUOTAS, what was given of it by time.
-- ARGV[1]: JSON of exchange.Ask. Answers JSON of exchange.Grant. Times in ms.
--
-- A quota has a *level*: what may be taken now. It refills at limit / period up to its capacity. What the provider says
-- corrects it: a call sent at time s whose answer said `remaining` means that now the provider has
-- remaining + refill since s - taken since s.  Where answers say nothing, refusals teach (see learn).
local QUOTAS = {'requests', 'tokens', 'input_tokens', 'output_tokens', 'requests_day', 'tokens_day'}
local MINUTE, DAY = 60000, 86400000
local PERIOD = {requests = MINUTE, tokens = MINUTE, input_tokens = MINUTE, output_tokens = MINUTE,
                requests_day = DAY, tokens_day = DAY}
local TAKEN_WINDOW = 64 -- calls in flight up to which silence counts as acceptance
local FIRST_WINDOW, LONGEST_HISTORY, KEEP = 16, 90000, 600000
local STRAY = 0.05 -- of the answers may be 429s that mean nothing
local MARGIN_MS = 250 -- of quota stays with the provider: calls do not arrive as evenly as they are let go

local ask = cjson.decode(ARGV[1])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local state, changed = {}, {}
local stored = redis.call('HGETALL', KEYS[1])
for i = 1, #stored, 2 do state[stored[i]] = tonumber(stored[i + 1]) or stored[i + 1] end
local function get(name, otherwise)
  local value = state[name]
  if value == nil then return otherwise end
  return value
end
local function set(name, value) state[name], changed[name] = value, true end

-- The other processes of the scope: their calls, what they hold unspent, what of theirs goes before ours.
local others = {busy = 0, busy_tokens = 0, wanting = 0, rows = {}, unspent = {}, urgent = {}}
local sent_before, gap = 0, 1000 -- our own calls of the moments before the last exchange; ms since then
local listed = redis.call('HGETALL', KEYS[2])
for i = 1, #listed, 2 do
  local row = cjson.decode(listed[i + 1])
  if row.expires < now then
    redis.call('HDEL', KEYS[2], listed[i])
  elseif listed[i] == ask.process then
    sent_before, gap = row.sent * math.min(1, 50 / math.max(1, row.gap)), now - row.at
  else
    table.insert(others.rows, row)
    others.busy = others.busy + row.busy
    others.busy_tokens = others.busy_tokens + row.busy_tokens
    others.wanting = others.wanting + (row.wanted > row.busy and 1 or 0)
    for quota, amount in pairs(row.unspent) do others.unspent[quota] = (others.unspent[quota] or 0) + amount end
    if row.at > now - 1500 and row.urgency > ask.urgency then
      for quota, amount in pairs(row.urgent) do others.urgent[quota] = (others.urgent[quota] or 0) + amount end
    end
  end
end
local busy = others.busy + ask.busy

-- What answers tell. A stray 429 concerns its job alone; an episode concerns the scope.
set('requests.accepted', get('requests.accepted', 0) + ask.accepted)
set('tokens.accepted', get('tokens.accepted', 0) + ask.accepted_tokens)
set('refused', get('refused', 0) + ask.refused)
local admitted = {requests = get('requests.accepted') + busy, tokens = get('tokens.accepted') + others.busy_tokens + ask.busy_tokens}
-- The x keeps what is stored from being read as a number.
local answers = 'x' .. string.sub(string.sub(get('answers', 'x'), 2) .. ask.answers, -50)
local refused_now = ask.refused
local _, refused = string.gsub(answers, '1', '')
local careful = get('requests.by') == 'refusals' or get('tokens.by') == 'refusals'
local episode = refused_now > 0 and refused >= (careful and 3 or 5) and refused > (careful and 0.06 or 0.2) * #answers
-- Refusals come at once, good answers after a while: among many calls in flight the former count against those sent.
episode = episode or refused_now >= 5 and refused_now > math.max(0.1 * ask.accepted, 0.12 * (ask.sent + sent_before))
episode = episode and now >= get('random.until', 0)
if ask.seconds > 0 then set('latency', get('latency', ask.seconds) * 0.7 + ask.seconds * 0.3) end
if (episode or ask.force) and ask.floor > 0 then set('floor', math.max(get('floor', 0), now + ask.floor)) end
local rest = math.max(0, get('floor', 0) - now)

-- Whether the provider's own words tell the quota of this kind of refusal.
local function speaks(quota)
  return get(quota .. '.by') == 'headers' or (ask.quotas[quota] or {}).seen ~= nil
end

-- Refusals of a silent provider teach its rate: from one moment at which its bucket was empty to the next one, it
-- refilled just what was accepted in between.
local function learn(quota)
  local name = quota .. '.'
  local at, then_admitted, limit = get('empty.at'), get('empty.' .. quota, 0), get(name .. 'learned')
  if at and now - at < 2000 then return false end
  if at and now - at <= MINUTE then
    local measured = (admitted[quota] - then_admitted) * MINUTE / (now - at)
    limit = math.max(0.97 * measured, limit and now - at > 3000 and 0.5 * limit or 0)
  elseif limit then
    limit = 0.7 * limit
  end
  set(name .. 'first', limit and get(name .. 'learned') == nil and 1 or nil)
  if limit then
    set(name .. 'learned', math.max(1, limit))
    set(name .. 'by', 'refusals')
    set(name .. 'level', math.min(0, get(name .. 'level', 0)))
  end
  return true
end
-- Below a rate hardly anything is refused. Who goes on refusing much, three times, however slow we are, minds no rate.
local function is_random(quota)
  local refusals = get('refused') - get('empty.refused', 0)
  local all = refusals + get('requests.accepted') - get('empty.fine', 0)
  if get(quota .. '.learned') and now - get('empty.at', 0) >= 2000 then
    set('stubborn', refusals > 0.15 * all and get('stubborn', 0) + 1 or 0)
  end
  return get('stubborn', 0) >= 3
end
local function mark_empty()
  set('empty.at', now)
  set('empty.refused', get('refused'))
  set('empty.fine', get('requests.accepted'))
  set('empty.requests', admitted.requests)
  set('empty.tokens', admitted.tokens)
end

-- Concurrency: slow start, one cut per episode, then careful growth. `ceiling` is what the provider was seen to bear.
local window = get('window') or ask.concurrency or math.max(FIRST_WINDOW, math.min(1000, ((ask.quotas.requests or {}).told or 0) / 30))
local function cut()
  local ceiling = math.max(1, busy)
  set('ceiling', ceiling)
  set('cut.at', now)
  set('ceiling.wait', math.min(300000, get('ceiling.wait', 5000) * 2))
  set('ceiling.at', now + get('ceiling.wait'))
  window = math.min(ceiling, FIRST_WINDOW / 2)
  if ask.cause == 'concurrency' then window = ceiling end
  set('slow', 1)
  set('grow.at', now + math.max(1000, 1200 * get('latency', 1)))
end
local strays_only = refused_now <= STRAY * ask.accepted
if not strays_only and get('ceiling') and window > get('ceiling') then
  window = get('ceiling')
  set('ceiling.wait', math.min(300000, get('ceiling.wait', 5000) * 2))
  set('ceiling.at', now + get('ceiling.wait'))
  answers = 'x'
elseif episode and now >= get('judged.until', 0) then
  local quota = ask.cause == 'tokens' and 'tokens' or 'requests'
  local silent = not (speaks('requests') or speaks('tokens') or get(quota .. '.learned') or (ask.quotas[quota] or {}).told)
  if ask.cause == 'concurrency' or silent and now - get('cut.at', 0) > 20000 then
    cut()
    mark_empty()
    set('cuts', 1)
  elseif silent and get('cuts') == 1 then
    set('ceiling', math.max(1, math.floor(0.9 * math.min(busy, get('ceiling')))))
    window = get('ceiling')
    set('cuts', 2)
  elseif not speaks(quota) then
    if is_random(quota) then
      set('random.until', now + MINUTE)
      set(quota .. '.learned', nil)
      set(quota .. '.by', nil)
      set('stubborn', 0)
    elseif learn(quota) then
      mark_empty()
    end
    set('ceiling', nil)
  else
    set('slow', 0)
  end
  set('judged.until', now + 1000)
  answers = 'x'
end
set('answers', answers)
local fine_now = ask.accepted
if not get('stage.at') then set('stage.at', now); set('stage.accepted', 0) end
if ask.broken > 0.2 * ask.accepted then set('grow.at', now + 5000) end
-- Refusals come at once: calls that are out for a second without one were taken, however long their answers need.
if get('slow', 1) == 1 and not get('ceiling') and refused_now == 0 and window < TAKEN_WINDOW and ask.waiting > 0
    and busy >= 0.8 * window and now - get('window.at', now) >= 1000 then
  window = math.min(TAKEN_WINDOW, 2 * window)
  set('window.at', now)
end
if not get('window.at') then set('window.at', now) end
if strays_only and fine_now > 0 and rest == 0 and busy + fine_now >= 0.8 * window and now >= get('grow.at', 0) then
  local ceiling = get('ceiling')
  if get('slow', 1) == 1 then
    window = window + 2 * math.min(fine_now, window)
    if ceiling and window >= ceiling then window = ceiling; set('slow', 0) end
    if window >= 2.5 * get('stage.window', window / 3) then
      local rate = (get('requests.accepted') - get('stage.accepted', 0)) / math.max(1, now - get('stage.at', 0))
      if rate < 1.15 * get('stage.rate', 0) then set('slow', 0) end
      set('stage.window', window); set('stage.rate', rate); set('stage.at', now); set('stage.accepted', get('requests.accepted'))
    end
  elseif not ceiling then
    window = window + fine_now / window
  elseif now >= get('ceiling.at', 0) then
    if window > ceiling then set('ceiling', window); set('ceiling.wait', 5000) end
    window = window + math.max(1, 0.05 * window)
    set('ceiling.at', now + math.max(2000, 2000 * get('latency', 1)))
  end
end

-- Levels.
local levels = {}
for index, quota in ipairs(QUOTAS) do
  local mine, name = ask.quotas[quota] or {}, quota .. '.'
  local seen = mine.seen
  if seen then
    set(name .. 'limit', seen.limit)
    set(name .. 'by', 'headers')
    if seen.reset >= 0 then
      set(name .. 'burst', math.max(1, math.min(seen.limit, seen.remaining + seen.reset * seen.limit / PERIOD[quota])))
    end
  end
  local learned = get(name .. 'learned')
  if learned and get(name .. 'by') == 'refusals' and ask.waiting > 0 and now - get(name .. 'grown.at', 0) >= 1000 then
    local calm = now - get('empty.at', 0)
    learned = learned * (get(name .. 'first') and 1.05 or calm < 15000 and 1.01 or calm < 30000 and 1.02 or calm < 40000 and 1.05 or 1.15)
    set(name .. 'learned', learned)
    set(name .. 'grown.at', now)
  end
  local limit = math.min(mine.told or math.huge, get(name .. 'limit') or math.huge, get(name .. 'by') == 'refusals' and learned or math.huge)
  if limit == math.huge and mine.known then limit = mine.known end
  if limit < math.huge then
    limit = limit * ask.share
    local per_ms = limit / PERIOD[quota]
    local second = math.max(1, per_ms * 1000)
    local full = math.max(1, get(name .. 'burst') and get(name .. 'burst') * ask.share or second)
    local capacity = math.max(1, full - math.min(0.25 * full, MARGIN_MS * per_ms))
    local refund = mine.refund or 0
    local level = get(name .. 'level') or math.min(capacity, second)
    level = math.min(capacity, level + math.max(0, now - get(name .. 'at', now)) * per_ms) + refund
    local given = get(name .. 'given', 0) - refund
    if seen then
      local before = redis.call('ZREVRANGEBYSCORE', KEYS[2 + index], now - seen.age, '-inf', 'LIMIT', 0, 1)[1]
      local taken = given - (before and tonumber(string.match(before, ':(.*)')) or 0)
      local unspent = (others.unspent[quota] or 0) + mine.unspent
      local estimate = seen.remaining - (full - capacity) + seen.age * seen.limit / PERIOD[quota] - taken - unspent
      local heard = get(name .. 'heard')
      if estimate < level then
        level = estimate
      elseif seen.age < 5000 and (ask.share == 1 or not heard) then
        level = level + (heard and 0.5 or 1) * math.max(0, math.min(capacity, estimate * ask.share) - level)
      end
      set(name .. 'heard', 1)
    end
    levels[quota] = {level = level, capacity = capacity, per_ms = per_ms, limit = limit, given = given, mine = mine,
                     history = KEYS[2 + index], refund = refund}
  end
end

-- Take: of every quota or of none. The first waiting call must fit; a call larger than a whole bucket passes when that
-- is full, and leaves a debt. What is more urgent elsewhere stays in the bucket.
local wait, may = rest, rest == 0 and ask.waiting > 0
for quota, one in pairs(levels) do
  local left = others.urgent[quota] or 0
  local least = math.min(one.mine.least or 0, one.capacity)
  one.free = one.level - left
  if (one.mine.want or 0) > 0 and one.free < least then
    may = false
    wait = math.max(wait, math.ceil((least - one.level) / one.per_ms), left > 0 and 50 or 0)
  end
end
local grants, unspent = {}, {}
for quota, one in pairs(levels) do
  local granted = 0
  if may and (one.mine.want or 0) > 0 then
    granted = math.floor(math.max(one.mine.least or 0, math.min(one.mine.want, one.free)))
  end
  set(quota .. '.level', one.level - granted)
  set(quota .. '.given', one.given + granted)
  set(quota .. '.at', now)
  if granted ~= 0 or one.refund ~= 0 then
    redis.call('ZADD', one.history, now, now .. ':' .. string.format('%.0f', one.given + granted))
    redis.call('ZREMRANGEBYSCORE', one.history, '-inf', now - LONGEST_HISTORY)
    redis.call('PEXPIRE', one.history, KEEP)
  end
  grants[quota] = {granted = granted, limit = one.limit, level = one.level - granted, by = get(quota .. '.by') or 'config'}
  unspent[quota] = (one.mine.unspent or 0) + granted
end

-- Slots: a fair part of the window for each process that wants one; calls in flight keep theirs until they end.
local rate = levels.requests and levels.requests.per_ms or 0
local flow = rate * get('latency', 0) * 1500 + 8 -- the calls in flight that a known rate needs, and half as many again
if rate > 0 and not get('ceiling') and window < flow then window = flow end
window = math.max(1, math.min(window, ask.concurrency or math.huge))
set('window', window)
local fair, taken = math.floor(window / (others.wanting + 1)), 0
for _, row in ipairs(others.rows) do
  local part = ask.urgency > row.urgency and 0 or math.min(row.wanted, fair)
  taken = taken + math.max(row.busy, math.min(row.granted, row.wanted), part)
end
taken = taken + (others.urgent.requests or 0)
local wanted = ask.busy + ask.waiting
local slots = math.max(0, math.min(wanted, math.floor(window) - taken))
redis.call('HSET', KEYS[2], ask.process, cjson.encode({granted = math.max(slots, ask.busy), busy = ask.busy, busy_tokens = ask.busy_tokens,
  wanted = wanted, sent = ask.sent, gap = gap, urgency = ask.urgency, urgent = ask.urgent, unspent = unspent, at = now, expires = now + ask.ttl}))
redis.call('PEXPIRE', KEYS[2], KEEP)

local flat, gone = {}, {}
for name in pairs(changed) do
  local value = state[name]
  if value == nil then
    table.insert(gone, name)
  else
    table.insert(flat, name)
    table.insert(flat, type(value) == 'number' and string.format('%.4f', value) or value)
  end
end
redis.call('HSET', KEYS[1], unpack(flat))
if #gone > 0 then redis.call('HDEL', KEYS[1], unpack(gone)) end
redis.call('PEXPIRE', KEYS[1], KEEP + math.ceil(rest))
return cjson.encode({quotas = grants, slots = slots, wait = math.ceil(wait), rest = math.ceil(rest), window = window})
