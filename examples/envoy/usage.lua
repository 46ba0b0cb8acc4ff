-- What a call asked for and what its answer used, copied into dynamic metadata (namespace "gatemeter") for the access log.
-- Reads JSON and server-sent events as they pass: no answer is held back, no text of a prompt or a completion is kept.
-- Only the paths of ASKED and SAID are copied; usage as the provider wrote it.
local MAX_USAGE, MAX_NAME = 4096, 256

local ASKED = { model = "model", stream = "stream", stream_options = "stream_options" }
local SAID = {
  id = "id", responseId = "id", ["message.id"] = "id", ["response.id"] = "id",
  model = "served_model", modelVersion = "served_model",
  ["message.model"] = "served_model", ["response.model"] = "served_model",
  ["choices.finish_reason"] = "finish_reason", ["candidates.finishReason"] = "finish_reason",
  stop_reason = "finish_reason", ["message.stop_reason"] = "finish_reason", ["delta.stop_reason"] = "finish_reason",
  status = "finish_reason", ["response.status"] = "finish_reason",
  service_tier = "service_tier", ["response.service_tier"] = "service_tier",
  usage = "usage", ["response.usage"] = "usage", usageMetadata = "usage", ["message.usage"] = "start_usage",
  error = "error", ["response.error"] = "error",
}

-- By prefix, whether something wanted lies below it: what does not is passed over at the speed of a search.
local function prefixes(wanted)
  local known = { [""] = true }
  for path in pairs(wanted) do
    for at in path:gmatch("()%.") do known[path:sub(1, at)] = true end
  end
  return known
end

-- Marks of JSON's structure, by byte. A loop over bytes is compiled by LuaJIT, a pattern is not.
local OPENS_OR_ENDS = { [34] = true, [91] = true, [93] = true, [123] = true, [125] = true } -- " [ ] { }
local ANY_MARK = { [34] = true, [91] = true, [93] = true, [123] = true, [125] = true, [44] = true, [58] = true } -- , :
local byte_at = string.byte

local function next_mark(piece, at, marks)
  for hit = at, #piece do
    local byte = byte_at(piece, hit)
    if marks[byte] then return hit, byte end
  end
end

-- A scanner of JSON that arrives in pieces: `found(name, text, at)` gets each wanted value as it is written, and where it
-- begins in the piece (if it is all in one). Elements of an array have the array's path. What stands between two documents ("data: ", line ends) is passed over. Memory is bounded:
-- only what may hold something wanted is kept track of, of all else the depth is counted.
local function scanner(wanted, below, found)
  local depth, skipped, in_string, escaped = 0, 0, false, false
  local prefix, is_array = {}, {} -- by depth, of what is open and may hold something wanted
  local key, reads_key, expects_key = "", false, false
  local name, level, taken, size = nil, 0, nil, 0 -- the value that is being copied: its depth, its pieces

  local function is_between()
    return depth + skipped == 0 and not in_string
  end

  return function(piece)
    local at, start, backslash = 1, 1, 0
    local function copy(upto)
      if name and upto >= start and size <= MAX_USAGE then
        taken[#taken + 1] = piece:sub(start, upto)
        size = size + upto - start + 1
      end
    end
    local function value_ends(upto)
      if not name or level ~= depth then return end
      copy(upto)
      local space, text = table.concat(taken):match("^(%s*)(.-)%s*$")
      if size <= MAX_USAGE and text ~= "" and text ~= "null" then found(name, text, upto - size + 1 + #space) end
      name = nil
    end
    local function opens(byte)
      local path = ""
      if skipped == 0 and depth > 0 then
        path = is_array[depth] and (byte == 123 and prefix[depth]) or not is_array[depth] and prefix[depth] .. key .. "."
      end
      if skipped > 0 or not path or not below[path] then
        skipped = skipped + 1
      else
        depth = depth + 1
        prefix[depth], is_array[depth], expects_key = path, byte == 91, byte == 123
      end
    end
    while at <= #piece do
      if escaped then
        escaped, at = false, at + 1
      elseif in_string then
        local hit = piece:find('"', at, true)
        if backslash < at then backslash = piece:find("\\", at, true) or #piece + 1 end
        if backslash < (hit or #piece + 1) then hit, escaped = backslash, true elseif hit then in_string = false end
        if reads_key and #key <= MAX_NAME then key = key .. piece:sub(at, (hit or #piece + 1) - 1) end
        at = (hit or #piece) + 1
      else
        local hit, byte = next_mark(piece, at, skipped > 0 and OPENS_OR_ENDS or ANY_MARK)
        if not hit then break end
        at = hit + 1
        if byte == 123 or byte == 91 then -- { [
          opens(byte)
        elseif byte == 34 then -- "
          in_string, reads_key = depth + skipped > 0, expects_key and skipped == 0
          if reads_key then key = "" end
        elseif skipped > 0 then -- } ] of what is passed over
          skipped = skipped - 1
        elseif depth > 0 and byte == 58 then -- :
          if expects_key and not name then
            name = wanted[prefix[depth] .. key]
            level, taken, size, start = depth, {}, 0, hit + 1
          end
          expects_key = false
        elseif depth > 0 and byte == 44 then -- ,
          value_ends(hit - 1)
          expects_key = not is_array[depth]
        elseif depth > 0 then -- } ]
          value_ends(hit - 1)
          depth, expects_key = depth - 1, false
        end
      end
    end
    copy(#piece)
  end, is_between
end

-- Whether `key` stands in the piece with something behind it, which is not null.
local function has_value(piece, key)
  local at, upto = piece:find(key, 1, true)
  while at do
    local colon = piece:match("^%s*:%s*()", upto + 1)
    if colon and (colon > #piece or byte_at(piece, colon) ~= 110) then return true end
    at, upto = piece:find(key, upto + 1, true)
  end
  return false
end

local TELLING = { '"usage"', '"finish_reason"', '"stop_reason"', '"response"', '"message"', '"error"', '"status"',
  '"usageMetadata"', '"finishReason"' }

-- Whether a piece is whole events that tell nothing new, once id and served model are known: nearly all of a stream are.
local function is_idle(piece)
  if piece:sub(-2) ~= "\n\n" then return false end
  for number = 1, #TELLING do
    if has_value(piece, TELLING[number]) then return false end
  end
  return true
end

local ASKED_BELOW, SAID_BELOW = prefixes(ASKED), prefixes(SAID)

-- A JSON string without its quotes; nil for one that holds escapes or is too long. Other values as they are.
local function plain(text)
  local inner = text:match('^"(.*)"$')
  if inner then text = inner:gsub("\\/", "/") end
  if #text > MAX_NAME or text:find("\\", 1, true) then return nil end
  return text
end

local function keep(handle, name, text)
  if name == "error" then text = "true" -- never its message: it may repeat what was sent
  elseif name ~= "usage" and name ~= "start_usage" then text = plain(text) end
  if text then handle:streamInfo():dynamicMetadata():set("gatemeter", name, text) end
end

local function is_readable(headers)
  local kind = headers:get("content-type") or ""
  return (kind:find("json", 1, true) or kind:find("event-stream", 1, true)) and not headers:get("content-encoding")
end

-- A streamed chat completion has usage only where the request asks for it. `options`, `at`: its stream_options, and where.
local function with_usage(body, options, at)
  if not options then return (body:gsub("^%s*{", '{"stream_options":{"include_usage":true},', 1)) end
  local wanted = options:gsub('"include_usage"%s*:%s*false', '"include_usage":true', 1)
  if not wanted:find('"include_usage"', 1, true) then
    wanted = wanted:gsub("^{%s*}$", "{}"):gsub("^{", '{"include_usage":true,', 1):gsub(",}$", "}")
  end
  return body:sub(1, at - 1) .. wanted .. body:sub(at + #options)
end

function envoy_on_request(handle)
  if handle:headers():get(":method") ~= "POST" or not is_readable(handle:headers()) then return end
  local buffer = handle:body()
  if not buffer then return end
  local body, streams, options, options_at = buffer:getBytes(0, buffer:length()), false, nil, nil
  scanner(ASKED, ASKED_BELOW, function(name, text, at)
    if name == "stream_options" then
      options, options_at = text, at
    else
      keep(handle, name, text)
      if name == "stream" then streams = text == "true" end
    end
  end)(body)
  local path = handle:headers():get(":path"):match("^[^?]*")
  if streams and path:find("/chat/completions$") then
    local changed = with_usage(body, options, options_at)
    if changed ~= body then handle:headers():replace("content-length", tostring(buffer:setBytes(changed))) end
  end
end

function envoy_on_response(handle)
  if tonumber(handle:headers():get(":status")) >= 400 or not is_readable(handle:headers()) then return end
  local is_stream, said = (handle:headers():get("content-type")):find("event-stream", 1, true), {}
  local feed, is_between = scanner(SAID, SAID_BELOW, function(name, text)
    said[name] = true
    keep(handle, name, text)
  end)
  for chunk in handle:bodyChunks() do
    local piece = chunk:length() > 0 and chunk:getBytes(0, chunk:length()) or ""
    if not (is_stream and said.id and said.served_model and is_between() and is_idle(piece)) then feed(piece) end
  end
end
