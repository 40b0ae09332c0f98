import type { Resources } from '../../resilience/resources.ts';
import { type Child, startChild } from './processes.ts';
import type { ClientCalls, Frames } from './protocol.ts';

/** Processes with clients: one alone takes frames no faster than one server sends them. */
const CLIENT_PROCESSES = 2;
const FRAMES_MS = 60_000;

export type Clients = Child<ClientCalls>;

export function startClients(resources: Resources): Clients[] {
  const clients = Array.from({ length: CLIENT_PROCESSES }, () => startChild<ClientCalls>('clients'));
  for (const one of clients) resources.add('clients', () => one.stop());
  return clients;
}

/** What each of the processes has to do of it. */
export const dealOut = <T>(clients: readonly Clients[], items: readonly T[]): [Clients, T[]][] =>
  clients.map((one, n) => [one, items.filter((_, i) => i % clients.length === n)]);

export async function openSockets(
  clients: readonly Clients[],
  set: string,
  url: string,
  tokens: readonly string[],
): Promise<void> {
  await Promise.all(dealOut(clients, tokens).map(([one, own]) => one.open({ set, url, tokens: own })));
}

/** Frames of all clients, when as many as expected have come or a minute is over. */
export async function gather(clients: readonly Clients[], set: string, expected: number): Promise<Frames[]> {
  const counts = clients.map(() => 0);
  const all: Frames[] = [];
  const end = performance.now() + FRAMES_MS;
  // Nobody knows which client's sockets they come on: those that have something say so, until it adds up.
  while (counts.reduce((a, b) => a + b, 0) < expected && performance.now() < end) {
    const parts = await Promise.all(clients.map((one) => one.frames({ set, count: 1, timeoutMs: 50 })));
    for (const [n, part] of parts.entries()) {
      counts[n]! += part.frames;
      if (part.frames > 0) all.push(part);
    }
  }
  return all;
}
