// An event as it changes.

const PAUSE_MS = 2000;

/**
 * Watch an event's places. `snapshot` gets the whole availability, `change` what is new; `lost` is
 * called when the connection breaks and `back` when it stands again. Returns what ends it.
 */
export function watch(eventId, { snapshot, change, lost = () => {}, back = () => {} }) {
  let source = null;
  let timer = 0;
  let broken = false;

  function open() {
    source = new EventSource(`/events/${eventId}/stream`);
    source.addEventListener("snapshot", (event) => snapshot(JSON.parse(event.data)));
    source.addEventListener("change", (event) => change(JSON.parse(event.data)));
    source.addEventListener("open", () => {
      if (broken) back();
      broken = false;
    });
    source.addEventListener("error", failed);
  }

  function failed() {
    if (!broken) lost();
    broken = true;
    // While it says CONNECTING, it comes back by itself, and asks for what it has missed.
    if (source.readyState === EventSource.CLOSED) timer = setTimeout(open, PAUSE_MS);
  }

  open();
  return () => {
    clearTimeout(timer);
    source.close();
  };
}
