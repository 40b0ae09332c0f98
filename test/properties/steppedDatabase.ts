import type pg from 'pg';
import { Database, type Listener, type Session } from '../../src/engine/database/database.ts';
import { databaseError, isDuplicate } from '../../src/engine/database/errors.ts';
import { type Actor, Crash } from './scheduler.ts';

/** Removes all state of the session of a crashed process. */
const DIES = 'rollback; select pg_advisory_unlock_all()';

const SQLSTATE_LENGTH = 5;

/**
 * A change of the schema takes its locks immediately or tries again. With a longer wait, the time of the
 * machine would decide about the order of steps.
 */
const IMPATIENT = /set_config\('lock_timeout'/;
const LOCK_TIMEOUT = '1ms';

/** Ids contain the time: two runs of a history have different ones. */
const ID = /\d{12,}/g;

const labelOf = (text: string): string => text.replace(/\s+/g, ' ').replace(ID, '<id>').trim().slice(0, 90);

/**
 * One actor's view of the shared database: each statement, also in a transaction, waits for the
 * actor's turn. After a crash of the actor it runs no more statements and rolls back.
 */
export class SteppedDatabase extends Database {
  readonly #shared: Database;
  readonly #actor: Actor;

  constructor(shared: Database, actor: Actor) {
    super(shared.url, { maxSessions: 1 });
    this.#shared = shared;
    this.#actor = actor;
  }

  override query<Row extends pg.QueryResultRow>(
    text: string,
    values?: unknown[],
  ): Promise<pg.QueryResult<Row>> {
    return this.#actor.step(labelOf(text), () => this.#shared.query<Row>(text, values));
  }

  override async withSession<T>(work: (session: Session) => Promise<T>): Promise<T> {
    const connected = await this.#actor.begin('session');
    // A session with a failed statement is usable after its rollback. A pool would replace it, and if
    // every other COPY meets a duplicate, new sessions would be most of the work.
    let refused: Error | undefined;
    try {
      const result = await this.#shared.withSession(async (session) => {
        connected();
        try {
          return await work(steppedSession(session, this.#actor));
        } catch (error) {
          if ((error as { code?: string }).code?.length !== SQLSTATE_LENGTH) throw error;
          refused = error as Error;
          return undefined;
        } finally {
          if (this.#actor.crashed) await this.#actor.within(() => session.query(DIES));
        }
      });
      if (refused) throw isDuplicate(refused) ? refused : databaseError(refused, this.url);
      return result as T;
    } finally {
      connected();
    }
  }

  /** Reading the sharding is no step of a history. */
  override sharding(): ReturnType<Database['sharding']> {
    return this.#shared.sharding();
  }

  override listen(channels: string[], handlers: Parameters<Database['listen']>[1]): Promise<Listener> {
    return this.#shared.listen(channels, handlers);
  }
}

type Submittable = Record<'handleReadyForQuery' | 'handleError', (...args: unknown[]) => void>;

function steppedSession(session: Session, actor: Actor): Session {
  let first = true;
  let inTransaction = false;
  const statement = async (text: string, values?: unknown[]): Promise<unknown> => {
    // Taking the session was a step, which includes the immediate work with it.
    const joins = first;
    first = false;
    if (joins && actor.crashed) throw new Crash();
    const given = IMPATIENT.test(text) ? [LOCK_TIMEOUT, ...values!.slice(1)] : values;
    const work = () => session.query(text, given);
    const result = await (joins ? actor.within(work) : actor.step(labelOf(text), work, { inTransaction }));
    if (text === 'begin') {
      inTransaction = true;
      actor.transactions += 1;
    } else if (text === 'commit' || text === 'rollback') {
      inTransaction = false;
      actor.transactions -= 1;
    }
    return result;
  };
  /** A COPY returns no promise: it ends when the session is ready again or the server has refused it. */
  const submit = (query: Submittable): unknown => {
    first = false;
    if (actor.crashed) throw new Crash();
    const done = actor.track();
    for (const end of ['handleReadyForQuery', 'handleError'] as const) {
      const original = query[end].bind(query);
      query[end] = (...args) => {
        original(...args);
        done();
      };
    }
    return session.query(query as never);
  };
  return Object.create(session, {
    query: {
      value: (text: string | Submittable, values?: unknown[]) =>
        typeof text === 'string' ? statement(text, values) : submit(text),
    },
  }) as Session;
}
