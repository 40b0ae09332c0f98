import type { Resources } from '../../resilience/resources.ts';
import { type Child, startChild } from './processes.ts';
import type { ClientCalls, Frames } from './protocol.ts';

/** Processes with clients: one process reads frames no faster than one server sends them. */
const CLIENT_PROCESSES = 2;
const FRAMES_MS = 60_000;

export type Clients = Child<ClientCalls>;

export function startClients(resources: Resources): Clients[] {
  const clients = Array.from({ length: CLIENT_PROCESSES }, () => startChild<ClientCalls>('clients'));
  for (const one of clients) resources.add('clients', () => one.stop());
  return clients;
}

/** Divides the items among the processes. */
export const divide = <T>(clients: readonly Clients[], items: readonly T[]): [Clients, T[]][] =>
  clients.map((one, n) => [one, items.filter((_, i) => i % clients.length === n)]);

export async function openSockets(
  clients: readonly Clients[],
  set: string,
  url: string,
  tokens: readonly string[],
): Promise<void> {
  await Promise.all(divide(clients, tokens).map(([one, own]) => one.open({ set, url, tokens: own })));
}

/** Collects frames of all clients until the expected number has arrived, for at most a minute. */
export async function gather(clients: readonly Clients[], set: string, expected: number): Promise<Frames[]> {
  const counts = clients.map(() => 0);
  const all: Frames[] = [];
  const end = performance.now() + FRAMES_MS;
  // Frames are not spread evenly over the clients, so each is polled until the sum is right.
  while (counts.reduce((a, b) => a + b, 0) < expected && performance.now() < end) {
    const parts = await Promise.all(clients.map((one) => one.frames({ set, count: 1, timeoutMs: 50 })));
    for (const [n, part] of parts.entries()) {
      counts[n]! += part.frames;
      if (part.frames > 0) all.push(part);
    }
  }
  return all;
}
