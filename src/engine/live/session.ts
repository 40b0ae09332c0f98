import type { LiveRecord } from '../model/messages.ts';
import { poll } from '../util/poll.ts';
import type { Cursor } from './cursor.ts';
import { DeliveredIds } from './deliveredIds.ts';

/** Reasons for which a gateway closes a socket, documented for clients in docs/asyncapi.json. */
export const CLOSE_CODES = {
  policy: 1008,
  unsupported: 1003,
  internal: 1011,
  restart: 1012,
  tryAgain: 1013,
  tooSlow: 4008,
} as const;

/** An open socket, as far as the hub needs it. */
export interface LiveSocket {
  readonly address: string;
  /** Bytes that wait in this process until the client reads them. */
  readonly bufferedBytes: number;
  /** Sends a whole frame. Does nothing on a socket that is closing. */
  write(frame: Buffer): void;
  close(code: number, reason: string): void;
  /** Closes immediately and drops buffered bytes. */
  terminate(): void;
}

/** One open socket of one user, and the posts it has been sent. */
export class Session extends DeliveredIds {
  readonly socket: LiveSocket;
  readonly userId: number;
  /** Unix milliseconds. */
  readonly since = Date.now();
  /** Posts sent. */
  delivered = 0;
  /** Time of the last one, by the monotonic clock. */
  deliveredAt = 0;
  /** The client asked to resume from a cursor. */
  readonly resumes: boolean;
  /** The client's cursor does not say what it has missed. */
  isLost = false;
  greeted = false;
  /** Presence is committed: the fan-out of later posts knows that the user is online. */
  announced = false;
  /** Posts that arrived while the session catches up; undefined while it is live. */
  pending: LiveRecord[] | undefined = [];
  /** The feed must be read for missed posts. */
  behind = false;
  running: Promise<void> | undefined;

  constructor(socket: LiveSocket, userId: number, cursor: Cursor, resumes: boolean) {
    // A new client has got nothing: a delayed post of any age is sent.
    super(cursor, resumes ? cursor.low : 0);
    this.resumes = resumes;
    this.socket = socket;
    this.userId = userId;
  }
}

const POLL_MS = 10;

/**
 * Waits until at most `bytes` are buffered for the client. Returns false if more are buffered after
 * `timeoutMs`.
 */
export const drained = (socket: LiveSocket, bytes: number, timeoutMs: number): Promise<boolean> =>
  poll(() => socket.bufferedBytes <= bytes, { everyMs: POLL_MS, timeoutMs });
