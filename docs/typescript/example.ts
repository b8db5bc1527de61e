// Signs up, watches an event, holds and books two seats, and cancels.

import { randomUUID } from "node:crypto";
import { connect, settled, watch, type Availability } from "./client.js";

const client = connect(process.env.SEATSVC_URL ?? "http://127.0.0.1:8000");

async function signUp(username: string): Promise<void> {
  const body = { username, password: randomUUID() };
  await settled(() => client.POST("/auth/register", { body }));
  const { access_token } = await settled(() => client.POST("/auth/login", { body }));
  client.use({
    onRequest: ({ request }) => request.headers.set("Authorization", `Bearer ${access_token}`),
  });
}

/** The first two free seats: the states stand in the order of the layout's seats. */
async function freeSeats(event_id: number): Promise<number[]> {
  const params = { path: { event_id } };
  const layout = await settled(() => client.GET("/events/{event_id}/layout", { params }));
  const now = await settled(() => client.GET("/events/{event_id}/availability", { params }));
  console.log(`free: ${now.counts.free}, version ${now.version}`);
  return layout.sections
    .flatMap((section, s) => {
      const seats = section.general_admission ? [] : section.rows.flatMap((row) => row.seats);
      return seats.filter((_, n) => now.sections[s]?.states[n] === "f");
    })
    .map((seat) => seat.id)
    .slice(0, 2);
}

async function hold(seat_ids: number[]) {
  const header = { "Idempotency-Key": randomUUID() }; // one for each hold, not for each try
  return settled(() => client.POST("/holds", { params: { header }, body: { seat_ids } }));
}

async function book(hold_id: string) {
  const header = { "Idempotency-Key": randomUUID() };
  return settled(() => client.POST("/bookings", { params: { header }, body: { hold_id } }));
}

async function tell(event_id: number, signal: AbortSignal): Promise<void> {
  for await (const { kind, data } of watch(client, event_id, signal)) {
    const { counts } = data as Availability;
    console.log(`${kind}: ${counts.free} free, ${counts.held} held, ${counts.booked} booked`);
  }
}

async function main(): Promise<void> {
  await signUp(`user-${randomUUID()}`);
  const [event] = (await settled(() => client.GET("/events"))).items;
  if (!event) throw new Error("There is no event on sale.");
  const stop = new AbortController();
  const told = tell(event.id, stop.signal);

  const held = await hold(await freeSeats(event.id));
  console.log(`held: ${held.seats.map((seat) => seat.id)} for ${held.expires_in} s`);
  const booking = await book(held.id);
  console.log(`booked: ${booking.total / 100} ${booking.currency}`);

  const path = { booking_id: booking.id };
  const gone = await settled(() => client.DELETE("/bookings/{booking_id}", { params: { path } }));
  console.log(`now: ${gone.status}`);
  stop.abort();
  await told;
}

await main();
