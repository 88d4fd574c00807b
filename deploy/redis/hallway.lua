#!lua name=hallway
-- The publishing half of Hallway, a realtime gateway: one call checks an event, gives it an offset in each of its
-- rooms, stores it there and sends it to whoever listens, atomically. A starting gateway loads this file on every
-- primary, with the settings block rendered anew from its configuration; `hallway redis-function` prints the same.
--
--   FCALL <prefix>_publish 2 <prefix>:{R}:history <prefix>:{R}:last <event json> [ID id] [REQUIRESACK] [ROOMS r1 r2 …]
--   FCALL <prefix>_publish n <prefix>:{R1} … <prefix>:{Rn} <event json> …          (not in a Cluster)
--     -> id, then per room: [room, offset or '', 1 if the id was known there, else 0]
--   FCALL <prefix>_info 0
--     -> [version, table]
--
-- For the nodes alone:
--
--   FCALL <prefix>_read 5 <prefix>:{R}:history <prefix>:{R}:last <prefix>:birth <prefix>:memory <prefix>:clock
--         <start, as XRANGE takes it> <limit> <bytes>
--     -> last, birth, memory, clock, the MEMORY below, [seconds, microseconds], 1 if more follow, [[offset, m], …]
--   FCALL <prefix>_note 3 <prefix>:birth <prefix>:memory <prefix>:clock <ms since the caller's note before, or ''> [ANEW]
--     -> the keys that had to be written anew though something stood there
--
-- The long form takes several pairs of keys, except in a Cluster. ROOMS stands last and names all rooms of the event.
-- Of a room R there are:
--
--   <prefix>:{R}            channel: the live messages (PUBLISH; SPUBLISH in a Cluster)
--   <prefix>:{R}:history    stream: entry id = offset, field `m` = the live message; expires ttl after its last entry
--   <prefix>:{R}:last       string: the newest offset, kept longer than the stream
--   <prefix>:{R}:id:<id>    string: the offset that an event with an id of the publisher's got
--   <prefix>:{R}:latest     hash: of `latest` events the newest per key; a value is a stamp, a blank, the live message
--
-- A live message is a line of words, then the event as it came:
--
--   1 <id> <timestamp> <ack 0|1> <room> <offset> <prev> [<room> <offset> <prev> …]
--
-- `prev` is the room's offset before this one. A room that stores nothing has `-` twice; one that knew the id has the
-- offset it has there, and `=`; one that keeps the newest per key has its stamp, `<ms>-<n>`, and `~<digest of the key>`.

-- <settings>
local VERSION = 4
local TABLE = 'default'            -- digest of everything below in this block, written by the gateway
local PREFIX = 'hallway'
local MEMORY = 604800000           -- ms the last offset is kept (at least every ttl)
local ID_WINDOW = 600000           -- ms an event id is remembered
local EVENT_BYTES = 65536          -- bytes of the event JSON text
local MAX_LATEST = 1000            -- keys of `latest` events per room
local FORMS = {                    -- a room is of the first that matches: segments ('*' = an id), max events, ttl ms, delivery
  { {'agent', '*', 'orders'}, 100, 3600000, 'durable' },
  { {'agents', 'all'}, 100, 3600000, 'durable' },
  { {'dashboard', 'admin'}, 100, 3600000, 'durable' },
  { {'orders', 'active'}, 100, 3600000, 'durable' },
  { {'store', '*', 'orders'}, 100, 3600000, 'durable' },
  { {'store', '*', 'zone', '*'}, 100, 3600000, 'durable' },
  { {'stores', 'all'}, 100, 3600000, 'durable' },
  { {'zone', '*', 'agents'}, 100, 3600000, 'durable' },
  { {'agent', '*'}, 100, 3600000, 'durable' },
  { {'order', '*'}, 100, 3600000, 'durable' },
  { {'product', '*'}, 100, 3600000, 'durable' },
  { {'store', '*'}, 100, 3600000, 'durable' },
  { {'user', '*'}, 100, 3600000, 'durable' },
  { {'variant', '*'}, 100, 3600000, 'durable' },
  { {'zone', '*'}, 100, 3600000, 'durable' },
}
local TYPES = {                    -- a type's delivery wins over the class's; the member of the payload that tells keys apart
  ['agent.location_updated'] = { 'latest', 'agentId' },
}
-- </settings>

local MAX_ROOMS = 64
local MAX_NAME = 128               -- bytes of an event id, a type, a segment of a room
local MAX_ROOM = 1024              -- bytes of a room
local MAX_NUMBER = 100             -- characters of a number: stock Python clients drop events with longer integers
local MAX_DEPTH = 65               -- the event itself, and 64 levels of payload
local MAX_INTEGER = 9007199254740992
local FIRST_STEP = 16              -- entries that are read before their size is known
local MAX_STEP = 1000              -- entries that are read at once
local UNSEEN = 60000               -- ms that the clock may have gone on unseen before it was set back
local FAR_APART = 16               -- bytes between two escapes from which on it is cheaper to cut them out one by one
local LEEWAY = 60000               -- ms that a clock may be set back, if the memory is twice as long
local NAME = '^[A-Za-z0-9_.:-]+$'
local ID = "[A-Za-z0-9_.~|@+=%%,!$&'()*;/-]+"
local KEY_HEAD = PREFIX .. ':{'

local PRIORITIES = { LOW = true, NORMAL = true, HIGH = true, CRITICAL = true }

local OPTIONAL = { 'id', 'priority', 'timestamp', 'meta' }

local RESERVED = {
  -- emitted by Socket.IO clients to themselves
  connect = true, connect_error = true, connect_timeout = true, connecting = true, disconnect = true,
  disconnecting = true, error = true, newListener = true, removeListener = true, ping = true, pong = true,
  reconnect = true, reconnect_attempt = true, reconnecting = true, reconnect_error = true, reconnect_failed = true,
  -- notices of the gateway itself
  ['auth.expiring'] = true, ['room.revoked'] = true, ['server.draining'] = true,
  ['presence.joined'] = true, ['presence.left'] = true,
}

-- Well-formed sequences of RFC 3629, the frequent ones first.
local UTF8 = {
  '[\225-\236\238\239][\128-\191][\128-\191]',
  '[\194-\223][\128-\191]',
  '\240[\144-\191][\128-\191][\128-\191]',
  '\224[\160-\191][\128-\191]',
  '\237[\128-\159][\128-\191]',
  '[\241-\243][\128-\191][\128-\191][\128-\191]',
  '\244[\128-\143][\128-\191][\128-\191]',
}

-- Made by the first call: while a library is loaded, none of Lua's own functions can be reached.
local json                         -- a cjson of our own; the settings of the global one are everybody's
local classes                      -- first segment of a room -> the classes that it may be of, in the order of FORMS
local too_long                     -- matches a number of more than MAX_NUMBER characters, from its first
local half_too_long                -- matches half as many, where it is said to begin
local clustered

local ids_made = 0

-- Ends the call with an error reply. (Redis turns a table with a field `err` into a string when it is caught.)
local function fail(reply)
  error({ reply = reply })
end

local function refuse(code, sentence)
  fail('ERR ' .. code .. ' ' .. sentence)
end

local function shown(text)
  return '"' .. text:sub(1, 80):gsub('[^ -~]', '?') .. '"'
end

local function integer(number)
  return string.format('%.0f', number)
end

-- Rooms

local function class_from(form)
  local segments, max, ttl, delivery = unpack(form)
  local parts = {}
  for i, segment in ipairs(segments) do
    parts[i] = segment == '*' and ID or segment:gsub('[^%w]', '%%%0')
  end
  return {
    pattern = '^' .. table.concat(parts, ':') .. '$',
    max = integer(max),
    keeps = { durable = max > 0, latest = delivery == 'latest' or delivery == 'durable' and max > 0 },
    ttl = integer(ttl),
    delivery = delivery,
  }
end

-- By first words, so that few are tried; forms that begin with an id are in every list, at their place.
local function compile_forms()
  local by_word = { ['*'] = {} }
  for _, form in ipairs(FORMS) do by_word[form[1][1]] = {} end
  for _, form in ipairs(FORMS) do
    local first, class = form[1][1], class_from(form)
    for word, list in pairs(by_word) do
      if first == word or first == '*' then list[#list + 1] = class end
    end
  end
  return by_word
end

local function check_lengths(room)
  if #room > MAX_ROOM then refuse('invalid-room', 'a room has at most ' .. MAX_ROOM .. ' bytes, not ' .. #room) end
  for segment in room:gmatch('[^:]+') do
    if #segment > MAX_NAME then
      refuse('invalid-room', 'an id in a room has at most ' .. MAX_NAME .. ' bytes, not ' .. #segment)
    end
  end
end

local function class_of(room)
  if #room > MAX_NAME then check_lengths(room) end
  for _, class in ipairs(classes[room:match('^[^:]*')] or classes['*']) do
    if room:find(class.pattern) then return class end
  end
  refuse('invalid-room', shown(room) .. ' is no form of room known here, with ids of letters, digits and _.~-|@+=%,!$&\'()*;/')
end

local function split_key(key)
  local brace = key:sub(1, #KEY_HEAD) == KEY_HEAD and key:find('}', #KEY_HEAD + 1, true)
  if not brace then refuse('usage', 'the key ' .. shown(key) .. ' does not begin with ' .. KEY_HEAD .. 'room}') end
  return key:sub(#KEY_HEAD + 1, brace - 1), key:sub(brace + 1)
end

local function room_of(name)
  local channel = KEY_HEAD .. name .. '}'
  return {
    name = name,
    channel = channel,
    history_key = channel .. ':history',
    last_key = channel .. ':last',
    latest_key = channel .. ':latest',
  }
end

local function check_keys(room, suffix, next_key, short)
  if (suffix == '') ~= short then refuse('usage', 'the short and the long form of keys cannot be mixed') end
  if short then return end
  if suffix ~= ':history' then
    refuse('usage', 'a key of the long form is ' .. room.history_key .. ', not one that ends in ' .. shown(suffix))
  end
  if next_key ~= room.last_key then
    refuse('usage', 'after the key ' .. room.history_key .. ' comes ' .. room.last_key)
  end
end

-- The rooms in the publisher's order, each once, and whether the keys are of the short form.
local function rooms_of(keys)
  if #keys == 0 then refuse('usage', 'no keys: name the rooms by their keys') end
  local rooms, seen, short = {}, {}, nil
  local i = 1
  while keys[i] do
    local name, suffix = split_key(keys[i])
    local class = class_of(name)
    local room = room_of(name)
    if short == nil then short = suffix == '' end
    check_keys(room, suffix, keys[i + 1], short)
    if not seen[name] then
      if #rooms == MAX_ROOMS then refuse('usage', 'an event has at most ' .. MAX_ROOMS .. ' rooms') end
      seen[name] = true
      room.class = class
      rooms[#rooms + 1] = room
    end
    i = i + (short and 1 or 2)
  end
  return rooms, short
end

local function is_clustered()
  if clustered == nil then
    local reply = redis.pcall('CLUSTER', 'MYID')
    if type(reply) == 'string' then
      clustered = true
    elseif reply.err:find('cluster support disabled', 1, true) then
      clustered = false
    else
      fail(reply.err)
    end
  end
  return clustered
end

local function check_cluster_form(rooms, short)
  if is_clustered() and (short or #rooms > 1) then
    refuse('usage', 'in a Cluster each room is a call of its own, with the keys ' .. KEY_HEAD .. 'room}:history '
      .. KEY_HEAD .. 'room}:last, the same ID, and ROOMS naming them all')
  end
end

-- Options

local function check_id(id, what)
  if #id > MAX_NAME or not id:find(NAME) then
    refuse('invalid-event', what .. ' must be 1 to ' .. MAX_NAME .. ' of A-Z a-z 0-9 _ . : -')
  end
end

local function check_all_rooms(args, first, rooms)
  if first > #args then refuse('usage', 'ROOMS needs at least one room') end
  local named, count = {}, 0
  for i = first, #args do
    if not named[args[i]] then
      class_of(args[i])
      named[args[i]] = true
      count = count + 1
    end
  end
  if count > MAX_ROOMS then refuse('usage', 'an event has at most ' .. MAX_ROOMS .. ' rooms') end
  for _, room in ipairs(rooms) do
    if not named[room.name] then refuse('usage', 'ROOMS must name all rooms, also ' .. shown(room.name)) end
  end
end

local function options_of(args, rooms)
  local id, ack = nil, '0'
  local i = 2
  while i <= #args do
    local word = args[i]:upper()
    if word == 'REQUIRESACK' then
      ack = '1'
    elseif word == 'ID' then
      i = i + 1
      if not args[i] then refuse('usage', 'ID needs an id') end
      if id then refuse('usage', 'ID is given twice') end
      id = args[i]
      check_id(id, 'ID')
    elseif word == 'ROOMS' then
      check_all_rooms(args, i + 1, rooms)
      break
    else
      refuse('usage', 'unknown option ' .. shown(args[i]) .. '; there are ID, REQUIRESACK and ROOMS')
    end
    i = i + 1
  end
  return id, ack
end

-- The event. cjson judges the structure and the escapes; what it lets pass is found with a few C-speed passes.

local function check_utf8(text)
  -- A placeholder keeps what stood apart from joining.
  local left = text:gsub('[\1-\127]+', ' ')
  if not left:find('[\128-\255]') then return end
  for _, sequence in ipairs(UTF8) do
    left = left:gsub(sequence, ' ')
    if not left:find('[\128-\255]') then return end
  end
  refuse('invalid-event', 'the event is not valid UTF-8')
end

-- cjson has seen to it that quotes come in pairs, so one that is left over begins a string with a byte that the
-- pattern does not take.
local function check_controls(unescaped)
  if unescaped:gsub('"[^"%z\1-\31]*"', ''):find('"', 1, true) then
    refuse('invalid-event', 'a string holds a raw control character')
  end
end

-- Takes out the escapes, so that each quote begins or ends a string. gsub goes through a text character by character, so
-- escapes that stand far apart are cut out without it, up to the first that is near to the one before.
local function without_escapes(text)
  -- Any other escape may stay: what is left of it is no quote.
  if not (text:find('\\"', 1, true) or text:find('\\\\', 1, true)) then return text end
  local pieces, from = {}, 1
  local at = text:find('\\', 1, true)
  while at and at - from >= FAR_APART do
    pieces[#pieces + 1] = text:sub(from, at - 1)
    from = at + 2
    at = text:find('\\', from, true)
  end
  local rest = text:sub(from)
  if at then rest = rest:gsub('\\.', '') end
  pieces[#pieces + 1] = rest
  return table.concat(pieces)
end

-- Returns the text without its strings.
local function check_strings(text)
  local unescaped = text
  if text:find('\\', 1, true) then unescaped = without_escapes(text) end
  if not text:find('^[ -~]*$') then
    check_utf8(text)
    if not text:find('^%C*$') then check_controls(unescaped) end
  end
  return (unescaped:gsub('%b""', ''))
end

local function check_numbers(skeleton)
  local dot = skeleton:find('.', 1, true)
  while dot and skeleton:find('^%d%.%d', dot - 1) do dot = skeleton:find('.', dot + 1, true) end
  if dot or skeleton:find('+', 1, true) and skeleton:find('[^eE]%+') then
    refuse('invalid-event', 'a number is not written as JSON has it')
  end
end

-- Whatever its place, a number that is too long has half of MAX_NUMBER characters behind one of the places looked at. To
-- look at all of them would double the cost of a payload of numbers.
local function check_numbers_short(skeleton)
  for at = 1, #skeleton - MAX_NUMBER / 2 + 1, MAX_NUMBER / 2 do
    if skeleton:find(half_too_long, at) then
      if not skeleton:find(too_long) then return end
      refuse('invalid-event', 'a number has at most ' .. MAX_NUMBER .. ' characters: write a longer one as a string')
    end
  end
end

local function check_fields_unique(event, skeleton)
  local top = skeleton:match('{(.*)}'):gsub('%b{}', ''):gsub('%b[]', '')
  local _, written = top:gsub(':', '')
  for _ in pairs(event) do written = written - 1 end
  if written ~= 0 then refuse('invalid-event', 'a field of the event is given twice') end
end

-- The members of the event as they are written, with a letter for each of the names in `letters` and none for any other
-- text: for what the decoded event does not tell.
local function written_members(text, letters)
  local marked = text:gsub('\\[\\"]', '\\u0000'):gsub('%b""', function(s)
    return letters[s:find('\\', 1, true) and json.decode('[' .. s .. ']')[1] or s:sub(2, -2)] or ''
  end)
  return marked:match('{(.*)}')
end

-- Only the text can tell {} from []: both are an empty table to cjson.
local function is_empty_array(text)
  local top = written_members(text, { meta = 'm' }):gsub('%b{}', '{}'):gsub('%b[]', '[]')
  return top:find('m%s*:%s*%[') ~= nil
end

-- A number of the payload as it is written: to Lua a long one is the same as its neighbours. It is the last of its name,
-- as for cjson.
local function numeral_of(text, member)
  local letter, numeral = member == 'payload' and 'p' or 'm', nil
  local members = written_members(text, { payload = 'p', [member] = letter }):gsub('%b[]', '[]')
  for name, object in members:gmatch('(%a?)%s*:%s*(%b{})') do
    local inner = name == 'p' and object:sub(2, -2):gsub('%b{}', '') or ''
    for found in inner:gmatch(letter .. '%s*:%s*([%d.eE+-]+)') do numeral = found end
  end
  return numeral
end

local function check_meta(meta, text)
  local object = type(meta) == 'table'
  if object then
    local key = next(meta)
    if key == nil then object = not is_empty_array(text) else object = type(key) == 'string' end
  end
  if not object then refuse('invalid-event', '"meta" must be an object') end
end

local function check_type(name)
  if name == nil then refuse('invalid-event', 'the event has no "type"') end
  if type(name) ~= 'string' or #name > MAX_NAME or not name:find(NAME) then
    refuse('invalid-event', '"type" must be a string of 1 to ' .. MAX_NAME .. ' of A-Z a-z 0-9 _ . : -')
  end
  if RESERVED[name] then refuse('invalid-event', 'the type ' .. shown(name) .. ' is reserved') end
end

-- A field that is null is as good as none, but for the payload.
local function check_fields(event, text)
  for _, name in ipairs(OPTIONAL) do
    if event[name] == json.null then event[name] = nil end
  end
  check_type(event.type)
  if event.payload == nil then refuse('invalid-event', 'the event has no "payload"') end
  if event.id ~= nil then
    if type(event.id) ~= 'string' then refuse('invalid-event', '"id" must be a string') end
    check_id(event.id, '"id"')
  end
  if event.priority ~= nil and not PRIORITIES[event.priority] then
    refuse('invalid-event', '"priority" must be LOW, NORMAL, HIGH or CRITICAL')
  end
  local at = event.timestamp
  if at ~= nil and (type(at) ~= 'number' or at < 0 or at > MAX_INTEGER or at % 1 ~= 0) then
    refuse('invalid-event', '"timestamp" must be an integer from 0 to 2^53, in milliseconds')
  end
  if event.meta ~= nil then check_meta(event.meta, text) end
end

local function event_of(text)
  if text == nil then refuse('usage', 'the event is missing') end
  if #text > EVENT_BYTES then
    refuse('event-too-large', 'the event has ' .. #text .. ' bytes; at most ' .. EVENT_BYTES .. ' are taken')
  end
  -- cjson takes a NUL for the end of the text.
  if text:find('\0', 1, true) then refuse('invalid-event', 'the event is not valid JSON: it holds a NUL byte') end
  local decoded, event = pcall(json.decode, text)
  if not decoded then refuse('invalid-event', 'the event is not valid JSON: ' .. event) end
  if type(event) ~= 'table' or not text:find('^%s*{') then
    refuse('invalid-event', 'the event is not a JSON object')
  end
  local skeleton = check_strings(text)
  check_numbers(skeleton)
  check_numbers_short(skeleton)
  check_fields_unique(event, skeleton)
  check_fields(event, text)
  return event
end

local function given_id(event, option)
  if option and event.id and option ~= event.id then
    refuse('invalid-event', 'ID and the event\'s own "id" are different')
  end
  return option or event.id
end

-- Offsets

local function parse_offset(offset)
  if not offset then return end
  return offset:match('^(%d+)%-(%d+)$')
end

-- Every key of the rooms is read before anything is written. While a slot of a Cluster moves, reading a key that may
-- be on the other side fails if it is read together with another one: so an id is never taken for new by mistake.
local function read_rooms(rooms, id)
  local names = {}
  for _, room in ipairs(rooms) do
    names[#names + 1] = room.last_key
    if id then names[#names + 1] = room.channel .. ':id:' .. id end
  end
  local values = redis.pcall('MGET', unpack(names))
  if values.err then
    -- as Redis 7 and Valkey, and as Redis 8 puts it
    local moving = values.err:find('non local key', 1, true) or values.err:find('rehashing of the slot', 1, true)
    fail(moving and 'TRYAGAIN the slot of the room is on the move' or values.err)
  end
  local step = id and 2 or 1
  for i, room in ipairs(rooms) do
    room.last = values[(i - 1) * step + 1] or nil
    room.known = id and values[i * step] or nil
    -- What is no offset was written by hand, and would make the message unreadable.
    if not parse_offset(room.known) then room.known = nil end
  end
end

-- Of several rooms none may be found unfit when another one has the event already: it would stand there and never be sent.
-- One room alone is checked by XADD itself, which is its first write.
local function check_fit(rooms)
  for _, room in ipairs(rooms) do
    if room.offset then
      local ahead = redis.pcall('XREVRANGE', room.history_key, '+', room.offset, 'COUNT', '1')
      if ahead.err then fail(ahead.err .. ' (' .. room.history_key .. ')') end
      if ahead[1] then
        fail('ERR ' .. room.history_key .. ' holds an entry ahead of ' .. room.last_key .. ': ' .. ahead[1][1])
      end
    end
  end
end

local function give_offset(room, now, first_of_now)
  local ms, n = parse_offset(room.last)
  if not ms then
    local newest = redis.pcall('XREVRANGE', room.history_key, '+', '-', 'COUNT', '1')
    if newest.err then fail(newest.err .. ' (' .. room.history_key .. ')') end
    room.last = newest[1] and newest[1][1]
    ms, n = parse_offset(room.last)
  end
  if not ms then
    ms, room.last = 0, integer(now - MEMORY) .. '-0'
  end
  room.prev = room.last
  if now > tonumber(ms) then
    room.offset = first_of_now
  elseif tonumber(n) < MAX_INTEGER then
    room.offset = ms .. '-' .. integer(n + 1)
  else
    -- Set by hand, and beyond what Lua counts.
    room.offset = integer(ms + 1) .. '-0'
  end
  -- Until the clock has passed the offset by the memory for good: it may be behind, or be set back.
  room.kept = integer(math.max(ms - now, 0) + MEMORY + math.min(LEEWAY, math.floor(MEMORY / 2)))
end

-- The newest per key

-- What an event is the newest of: its type, and what the payload says in the member that the type names.
local function key_of(event, text)
  local member = TYPES[event.type] and TYPES[event.type][2]
  local value = member and type(event.payload) == 'table' and event.payload[member]
  if type(value) == 'number' then value = numeral_of(text, member) end
  return type(value) == 'string' and event.type .. ' ' .. value or event.type
end

local function parse_latest(value)
  return (value or ''):match('^(%d+)%-(%d+) 1 (%S+) ')
end

-- A stamp is newer than any of its key before, also when the clock is behind.
local function give_stamp(room, key, id, now, first_of_now)
  local kept = redis.pcall('HGET', room.latest_key, key)
  if type(kept) == 'table' then fail(kept.err .. ' (' .. room.latest_key .. ')') end
  local ms, n, newest_id = parse_latest(kept)
  room.key = key
  room.repeated = id ~= nil and newest_id == id
  if room.repeated then
    room.stamp = ms .. '-' .. n
  elseif ms and now <= tonumber(ms) then
    room.stamp = ms .. '-' .. integer(n + 1)
  else
    room.stamp = first_of_now
  end
end

-- The oldest keys but the one just written, a tenth at a time so that a full room is not gone through by every event.
local function thin_out(room, now)
  local kept, gone = {}, {}
  local all = redis.call('HGETALL', room.latest_key)
  for i = 1, #all, 2 do
    local ms = tonumber((parse_latest(all[i + 1])))
    if not ms or ms <= now - tonumber(room.class.ttl) then
      gone[#gone + 1] = all[i]
    elseif all[i] ~= room.key then
      kept[#kept + 1] = { ms, all[i] }
    end
  end
  table.sort(kept, function(a, b) return a[1] < b[1] end)
  for i = 1, #kept + 1 - (MAX_LATEST - math.floor(MAX_LATEST / 10)) do gone[#gone + 1] = kept[i][2] end
  for i = 1, #gone, 1000 do redis.call('HDEL', room.latest_key, unpack(gone, i, math.min(i + 999, #gone))) end
end

local function keep_newest(room, message, now)
  redis.call('HSET', room.latest_key, room.key, room.stamp .. ' ' .. message)
  redis.call('PEXPIRE', room.latest_key, room.class.ttl)
  if redis.call('HLEN', room.latest_key) > MAX_LATEST then thin_out(room, now) end
end

-- A room's part of an event

local function delivery_in(room, event)
  local wanted = TYPES[event.type] and TYPES[event.type][1] or room.class.delivery
  return room.class.keeps[wanted] and wanted or 'ephemeral'
end

local function position_rooms(rooms, event, id, now, text)
  local stored, latest = {}, {}
  for _, room in ipairs(rooms) do
    local delivery = delivery_in(room, event)
    if delivery == 'durable' then stored[#stored + 1] = room end
    if delivery == 'latest' then latest[#latest + 1] = room end
  end
  if #stored > 0 then read_rooms(stored, id) end
  local first_of_now = integer(now) .. '-0'
  for _, room in ipairs(stored) do
    if not room.known then give_offset(room, now, first_of_now) end
  end
  local key = #latest > 0 and key_of(event, text)
  for _, room in ipairs(latest) do give_stamp(room, key, id, now, first_of_now) end
  if #rooms > 1 then check_fit(stored) end
end

-- The message

-- What follows the id on the first line of a live message.
local function line_of(timestamp, ack, rooms)
  local words = { integer(timestamp), ack }
  for _, room in ipairs(rooms) do
    words[#words + 1] = room.name
    words[#words + 1] = room.known or room.offset or room.stamp or '-'
    words[#words + 1] = room.known and '=' or room.prev or room.key and '~' .. redis.sha1hex(room.key):sub(1, 16) or '-'
  end
  return table.concat(words, ' ')
end

-- A UUID of version 7. The count tells apart equal events within one MULTI, for which time stands still.
local function make_id(now, micros, line)
  ids_made = ids_made + 1
  local random = redis.sha1hex(micros .. ' ' .. ids_made .. ' ' .. line)
  return string.format('%08x-%04x-7%s-%x%s-%s', math.floor(now / 65536), now % 65536, random:sub(1, 3),
    8 + random:byte(4) % 4, random:sub(5, 7), random:sub(8, 19))
end

local function check_right(command, name)
  if not redis.acl_check_cmd(command, name) then
    fail('NOPERM this user may not use ' .. command .. ' on ' .. name)
  end
end

-- A right found missing halfway would leave an event stored and never sent.
local function check_rights(rooms, publish_command)
  for _, room in ipairs(rooms) do
    if room.offset then
      check_right('XADD', room.history_key)
      check_right('PEXPIRE', room.history_key)
      check_right('SET', room.last_key)
    end
    if room.stamp then
      for _, command in ipairs({ 'HSET', 'PEXPIRE', 'HLEN', 'HGETALL', 'HDEL' }) do
        check_right(command, room.latest_key)
      end
    end
    if not room.known then check_right(publish_command, room.channel) end
  end
end

local function store(room, message, id)
  local history, class = room.history_key, room.class
  redis.call('XADD', history, 'MAXLEN', '=', class.max, room.offset, 'm', message)
  redis.call('PEXPIRE', history, class.ttl)
  redis.call('SET', room.last_key, room.offset, 'PX', room.kept)
  if id then redis.call('SET', room.channel .. ':id:' .. id, room.offset, 'PX', ID_WINDOW) end
end

local function reply_of(id, rooms)
  local reply = { id }
  for _, room in ipairs(rooms) do
    reply[#reply + 1] = { room.name, room.known or room.offset or '', (room.known or room.repeated) and 1 or 0 }
  end
  return reply
end

local function prepare()
  if json then return end
  classes = compile_forms()
  json = cjson.new()
  json.decode_invalid_numbers(false)
  json.decode_max_depth(MAX_DEPTH)
  too_long = '%f[%d.eE+-]' .. ('[%d.eE+-]'):rep(MAX_NUMBER + 1)
  half_too_long = '^' .. ('[%d.eE+-]'):rep(MAX_NUMBER / 2)
end

local function publish(keys, args)
  prepare()
  local text = args[1]
  local rooms, short = rooms_of(keys)
  local option_id, ack = options_of(args, rooms)
  check_cluster_form(rooms, short)
  local event = event_of(text)
  local id_given = given_id(event, option_id)

  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  position_rooms(rooms, event, id_given, now, text)

  local timestamp = math.min(event.timestamp or now, now) + 0   -- which makes 0 of -0
  local line = line_of(timestamp, ack, rooms)
  local id = id_given or make_id(now, time[2], line)
  local message = '1 ' .. id .. ' ' .. line .. '\n' .. text
  local publish_command = clustered and 'SPUBLISH' or 'PUBLISH'
  check_rights(rooms, publish_command)
  for _, room in ipairs(rooms) do
    if room.offset then store(room, message, id_given) end
    if room.stamp and not room.repeated then keep_newest(room, message, now) end
  end
  for _, room in ipairs(rooms) do
    if not (room.known or room.repeated) then redis.call(publish_command, room.channel, message) end
  end
  return reply_of(id, rooms)
end

redis.register_function(PREFIX .. '_publish', function(keys, args)
  local done, result = pcall(publish, keys, args)
  if done then return result end
  return { err = type(result) == 'table' and result.reply or tostring(result) }
end)

-- Reading: a room as of one instant, cut by bytes before it travels

-- In steps as large as the mean size seen allows, so that large entries are not copied by the thousand to be thrown away.
local function read_entries(history, start, limit, bytes)
  local taken, left, step = {}, bytes, math.min(limit, FIRST_STEP)
  while true do
    local found = redis.pcall('XRANGE', history, start, '+', 'COUNT', integer(step + 1))
    if found.err then return found end
    for i = 1, math.min(step, #found) do
      local fields, message = found[i][2], false
      for f = 1, #fields, 2 do
        if fields[f] == 'm' then message = fields[f + 1] end
      end
      local size = message and #message or 0
      -- One is given whatever its size, or its reader would never come past it.
      if #taken > 0 and size > left then return taken, 1 end
      left = left - size
      taken[#taken + 1] = { found[i][1], message }
    end
    if #found <= step then return taken, 0 end
    if #taken >= limit or left <= 0 then return taken, 1 end
    start = '(' .. taken[#taken][1]
    local mean = math.max((bytes - left) / #taken, 1)
    step = math.min(math.max(math.floor(left / mean), 1), limit - #taken, MAX_STEP)
  end
end

-- MGET, since a key of another type is as good as none to it. The time is asked for last: what was forgotten must have
-- been so at that time.
local function read(keys, args)
  local known = redis.pcall('MGET', keys[2], keys[3], keys[4], keys[5])
  if known.err then return known end
  local limit, entries, more = tonumber(args[2]), {}, 0
  if limit > 0 then
    entries, more = read_entries(keys[1], args[1], limit, tonumber(args[3]))
    if entries.err then return entries end
  end
  return { known[1], known[2], known[3], known[4], integer(MEMORY), redis.call('TIME'), more, entries }
end

redis.register_function{
  function_name = PREFIX .. '_read',
  callback = read,
  flags = { 'no-writes' },
}

-- What the nodes keep beside the data, so that nothing they say of it rests on themselves

-- A birth that is missing or no number is now: nothing is known to be older.
local function note_birth(key, text, now)
  local known = text and text:find('^%d+$')
  if not known then redis.call('SET', key, integer(now)) end
  return known
end

-- The memory in force, and since when none shorter was. Behind a longer one it begins anew: what was remembered under a
-- shorter one may be forgotten already. From the next millisecond, as what came earlier in this one may be among that.
local function note_memory(key, text, now, anew)
  local memory, since = (text or ''):match('^(%d+) (%d+)$')
  memory, since = tonumber(memory), tonumber(since)
  if not memory or anew or memory < MEMORY or since > now + 1 then
    redis.call('SET', key, integer(MEMORY) .. ' ' .. integer(now + 1))
  elseif memory > MEMORY then
    redis.call('SET', key, integer(MEMORY) .. ' ' .. integer(since))
  end
  return memory ~= nil
end

-- The highest time seen, and the span that was gone through twice because the clock was set back: from the time behind
-- that to the time before it, each as far as they may lie since the look before. Several are taken for one.
local function note_clock(key, text, now, passed)
  local highest, from, to = (text or ''):match('^(%d+) (%d+) (%d+)$')
  highest, from, to = tonumber(highest), tonumber(from), tonumber(to)
  local known = highest ~= nil
  if not known then
    -- What was before is not known, so all of it counts as gone through twice.
    highest, from, to = now, 0, math.max(now - 1, 0)
  elseif now < highest then
    local back = passed and math.max(now - passed, 0) or 0
    from = from < to and math.min(from, back) or back
    to = math.max(to, highest + (passed or UNSEEN))
    highest = now
  else
    highest = now
  end
  redis.call('SET', key, integer(highest) .. ' ' .. integer(from) .. ' ' .. integer(to))
  return known
end

-- Each look of a node calls this, and so does a node that loads the function, in the same transaction.
local function note(keys, args)
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  local values, held = redis.call('MGET', keys[1], keys[2], keys[3]), {}
  -- A key of another type is none to MGET, and an error to GET.
  for i, key in ipairs(keys) do held[i] = redis.pcall('GET', key) end
  local known = {
    note_birth(keys[1], values[1], now),
    note_memory(keys[2], values[2], now, args[2] == 'ANEW'),
    note_clock(keys[3], values[3], now, tonumber(args[1])),
  }
  local mended = {}
  for i, key in ipairs(keys) do
    if held[i] and not known[i] then mended[#mended + 1] = key end
  end
  return mended
end

redis.register_function(PREFIX .. '_note', note)

redis.register_function{
  function_name = PREFIX .. '_info',
  callback = function() return { VERSION, TABLE } end,
  flags = { 'no-writes' },
}
