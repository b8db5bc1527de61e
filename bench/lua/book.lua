-- Sends prepared requests, each once:
--   wrk -t1 … -s book.lua URL -- REQUESTS ANSWERS
-- A line of REQUESTS is a token, a tab and a body. The ids answered with 201 go to ANSWERS.
-- It ends early when there is nothing left to send, while all connections are still busy.
-- Prints one line of JSON.

local ffi = require("ffi")
ffi.cdef [[
  typedef struct { long seconds; long nanoseconds; } moment;
  int clock_gettime(int clock, moment *now);
  int getpid(void);
  int kill(int process, int signal);
]]
local MONOTONIC, INTERRUPT = 1, 2
local ID = '"id":"([%x-]+)"'
local moment = ffi.new("moment")
local lines, answers, head, filler
local threads = {}

local function now()
  ffi.C.clock_gettime(MONOTONIC, moment)
  return tonumber(moment.seconds) + tonumber(moment.nanoseconds) / 1e9
end

-- The thread stops at once; the signal wakes the main one, which would sleep for the whole -d.
local function finish()
  ended = true
  wrk.thread:stop()
  ffi.C.kill(ffi.C.getpid(), INTERRUPT)
end

function setup(thread)
  table.insert(threads, thread)
end

-- What follows runs in the thread; `done` asks for its globals.
function init(args)
  lines, answers = io.lines(args[1]), io.open(args[2], "w")
  answers:setvbuf("full", 1048576)
  head = "POST " .. wrk.path .. " HTTP/1.1\r\nHost: " .. wrk.host
    .. "\r\nContent-Type: application/json\r\nAuthorization: Bearer "
  filler = wrk.format("GET", "/livez")
  statuses = {}
end

function request()
  if not asked then -- wrk looks at one that it does not send
    asked = 0
    return filler
  end
  first = first or now()
  local line = not ended and lines()
  if not line then
    if not ended then finish() end
    return filler
  end
  asked = asked + 1
  local tab = line:find("\t", 1, true)
  local body = line:sub(tab + 1)
  return head .. line:sub(1, tab - 1) .. "\r\nContent-Length: " .. #body .. "\r\n\r\n" .. body
end

function response(status, headers, body)
  if ended then return end
  last = now()
  statuses[status] = (statuses[status] or 0) + 1
  if status == 201 then answers:write(body:match(ID) or "?", "\n") end
end

function done(summary, latency)
  local thread, counts = threads[1], {}
  for status, count in pairs(thread:get("statuses")) do
    table.insert(counts, string.format('"%d": %d', status, count))
  end
  local errors = summary.errors
  io.write(string.format(
    '{"seconds": %.6f, "asked": %d, "statuses": {%s}, "failed": %d, "p50_ms": %.3f, "p99_ms": %.3f}\n',
    (thread:get("last") or 0) - (thread:get("first") or 0), thread:get("asked"),
    table.concat(counts, ", "), errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
