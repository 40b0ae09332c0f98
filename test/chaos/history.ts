/** Result of a request. `unknown`: it may have happened, and it may still happen. */
export type Outcome = 'ok' | 'refused' | 'unknown';

/** All times are milliseconds of one monotonic clock, that of the clients. */
interface Request {
  readonly user: number;
  readonly start: number;
  end: number;
  outcome: Outcome;
  /** An earlier attempt of the same request may still happen later. */
  retried: boolean;
  /** Status and text of a refusal. */
  why?: string;
}

/** `key` names a post in every text that it ever has, so posts without a known id are found too. */
export interface Create extends Request {
  readonly do: 'create';
  readonly key: string;
  readonly text: string;
  postId?: number;
}

export interface Edit extends Request {
  readonly do: 'edit';
  readonly key: string;
  readonly text: string;
}

export interface Delete extends Request {
  readonly do: 'delete';
  readonly key: string;
}

export interface FollowChange extends Request {
  readonly do: 'follow' | 'unfollow';
  readonly followee: number;
}

export interface Item {
  readonly id: number;
  readonly author: number;
  readonly text: string;
}

export interface Read extends Request {
  readonly do: 'read';
  readonly gateway: string;
  readonly limit: number;
  items: readonly Item[];
  /** The gateway said that the database is unavailable and the page may be old. */
  degraded: boolean;
}

export type Operation = Create | Edit | Delete | FollowChange | Read;

/** A frame of a client. `opened`: when its session began. `sent`: the earliest time it was sent. */
export interface Received {
  readonly user: number;
  readonly session: number;
  readonly gateway: string;
  readonly opened: number;
  readonly at: number;
  readonly sent: number;
  readonly kind: 'hello' | 'post' | 'edited' | 'deleted';
  readonly recovered?: boolean;
  readonly item?: Item;
  /** The post of a deletion. */
  readonly postId?: number;
}

export interface Note {
  readonly at: number;
  readonly text: string;
}

interface Span {
  readonly from: number;
  readonly to: number;
}

/** What readers got at a time when no earlier request could happen any more. */
export interface Checkpoint {
  readonly at: number;
  readonly state: FinalState;
}

/** Requests and answers of the clients of one round, whose users no other round has. */
export interface History {
  readonly users: readonly number[];
  /** Pairs `[follower, followee]` before the first operation. */
  readonly followsBefore: readonly (readonly [number, number])[];
  readonly operations: Operation[];
  readonly received: Received[];
  readonly notes: Note[];
  /** Commits between these times may be lost: a failover to a server that lacked them. */
  readonly mayLose: Span[];
  /** Requests may be held up between these times, and happen later. */
  readonly held: Span[];
  /** In the order of their times. */
  readonly checkpoints: Checkpoint[];
  /** A fault held frames up on their way, so their times say nothing. */
  framesHeld: boolean;
  /** A clock was wrong, so a cursor may be of a time that has not come. */
  clocksWrong: boolean;
}

/** Returns a history in which nothing has happened yet. */
export const newHistory = (users: History['users'], followsBefore: History['followsBefore']): History => ({
  users,
  followsBefore,
  operations: [],
  received: [],
  notes: [],
  mayLose: [],
  held: [],
  checkpoints: [],
  framesHeld: false,
  clocksWrong: false,
});

/** The follows, and the feeds that readers get, when all is quiet. */
export interface FinalState {
  /** The rows of the table `follows`, as `follower:followee`. */
  readonly follows: ReadonlySet<string>;
  readonly feeds: readonly {
    readonly user: number;
    readonly gateway: string;
    readonly limit: number;
    readonly items: readonly Item[];
  }[];
}

export const pairOf = (follower: number, followee: number): string => `${follower}:${followee}`;

/** The part of a text that an edit keeps. */
export const keyOf = (text: string): string => text.split(' ', 1)[0]!;
