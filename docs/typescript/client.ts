// The client: typed by the service's own OpenAPI document. `npm run types` makes ./schema.d.ts.

import createClient from "openapi-fetch";
import type { components, paths } from "./schema.d.ts";

export type Problem = components["schemas"]["Problem"];
export type Availability = components["schemas"]["Availability"];
type Answer<T> = { data?: T; error?: Problem; response: Response };

const ATTEMPTS = 5;

/** A call was refused. Branch on `problem.code`. */
export class Refused extends Error {
  constructor(readonly problem: Problem | undefined) {
    super(problem ? `${problem.code}: ${problem.detail}` : "no answer");
  }
}

export function connect(baseUrl: string) {
  return createClient<paths>({ baseUrl });
}

export type Client = ReturnType<typeof connect>;

/**
 * Sends until the service has settled it: it waits as long as `Retry-After` says of `busy`, of too
 * many requests and of a 503, and a second where the connection was lost. Only for what may be sent
 * twice, such as reads, and holds and bookings with an Idempotency-Key.
 */
export async function settled<T>(send: () => Promise<Answer<T>>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    const answer = await send().catch(() => undefined); // the connection was lost
    if (answer?.data !== undefined) return answer.data;
    const waitS = answer ? Number(answer.response.headers.get("Retry-After")) : 1;
    if (!waitS || attempt === ATTEMPTS) throw new Refused(answer?.error);
    await pause(waitS);
  }
}

/** What an event's stream tells. A stream that ended, or was cut, is resumed where it was. */
export async function* watch(client: Client, eventId: number, signal: AbortSignal) {
  let version = "";
  while (!signal.aborted) {
    try {
      for await (const event of stream(client, eventId, version, signal)) {
        version = event.id;
        yield event;
      }
    } catch (error) {
      // Such as: there is no such event. All else passes.
      if (error instanceof Refused && (error.problem?.status ?? 500) < 500) throw error;
    }
    if (!signal.aborted) await pause(1);
  }
}

function pause(seconds: number): Promise<void> {
  return new Promise((resume) => setTimeout(resume, seconds * 1000));
}

async function* stream(client: Client, eventId: number, last: string, signal: AbortSignal) {
  const header = last ? { "Last-Event-ID": last } : {};
  const body = await settled(() =>
    client.GET("/events/{event_id}/stream", {
      params: { path: { event_id: eventId }, header },
      parseAs: "stream",
      signal,
    }),
  );
  const decoder = new TextDecoder();
  let text = "";
  for await (const bytes of body as ReadableStream<Uint8Array>) {
    const blocks = (text + decoder.decode(bytes, { stream: true })).split("\n\n");
    text = blocks.pop() ?? "";
    yield* blocks.filter((block) => !block.startsWith(":")).map(parsed); // a comment: it is alive
  }
}

function parsed(block: string) {
  const field = (name: string) => new RegExp(`^${name}: ?(.*)$`, "m").exec(block)?.[1] ?? "";
  return { kind: field("event"), id: field("id"), data: JSON.parse(field("data")) };
}
