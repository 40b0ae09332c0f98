import type { LiveRecord } from '../model/messages.ts';
import { poll } from '../util/poll.ts';
import type { Cursor } from './cursor.ts';
import { DeliveredIds } from './deliveredIds.ts';

/** Why a gateway closes a socket. docs/asyncapi.json says it to clients. */
export const CLOSE_CODES = {
  policy: 1008,
  unsupported: 1003,
  internal: 1011,
  restart: 1012,
  tryAgain: 1013,
  tooSlow: 4008,
} as const;

/** What the hub needs of an open socket. */
export interface LiveSocket {
  readonly address: string;
  /** Bytes that wait in this process for the client to take them. */
  readonly bufferedBytes: number;
  /** A whole frame. Nothing is sent on a socket that is closing. */
  write(frame: Buffer): void;
  close(code: number, reason: string): void;
  /** At once, with what still waits. */
  terminate(): void;
}

/** One open socket of one user, and what it has been sent. */
export class Session extends DeliveredIds {
  readonly socket: LiveSocket;
  readonly userId: number;
  /** Unix milliseconds. */
  readonly since = Date.now();
  /** Posts sent. */
  delivered = 0;
  /** The last of them, by the monotonic clock. */
  deliveredAt = 0;
  /** The client has asked to go on where it was. */
  readonly resumes: boolean;
  greeted = false;
  /** Whoever commits a post from now on knows that the user is online. */
  announced = false;
  /** What has come since it is being brought up to date; undefined while it is live. */
  pending: LiveRecord[] | undefined = [];
  /** Its feed has to be looked at. */
  behind = false;
  running: Promise<void> | undefined;

  constructor(socket: LiveSocket, userId: number, cursor: Cursor, resumes: boolean) {
    // Who begins now has got nothing: what was held up may be as old as it likes.
    super(cursor, resumes ? cursor.low : 0);
    this.resumes = resumes;
    this.socket = socket;
    this.userId = userId;
  }
}

const POLL_MS = 10;

/** Waits until at most `bytes` are buffered for the client. Returns false if more are buffered after `timeoutMs`. */
export const drained = (socket: LiveSocket, bytes: number, timeoutMs: number): Promise<boolean> =>
  poll(() => socket.bufferedBytes <= bytes, { everyMs: POLL_MS, timeoutMs });
