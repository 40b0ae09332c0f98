import { poll } from '../../src/engine/util/poll.ts';
import { openProxy } from './proxy.ts';
import { noReplicas, startReplica } from './replicas.ts';

const FOLLOW_MS = 60_000;
const EVERY = { everyMs: 50, timeoutMs: FOLLOW_MS };

/** False on a machine that cannot start a primary with a standby. */
export const canStream = noReplicas === undefined;

/** A primary with a streaming standby, behind one address. */
export interface StreamingPair {
  /** Leads to the primary, and to the standby after `failOver`. */
  readonly url: string;
  /** Ends the replication: later commits are lost by `failOver`. */
  cutReplication(): Promise<void>;
  /** Resolves when the standby has what the primary has. */
  caughtUp(): Promise<void>;
  /** Kills the primary and promotes the standby. */
  failOver(): Promise<void>;
}

/** Starts a primary and a standby until the test ends. */
export async function startStreaming(): Promise<StreamingPair> {
  const primary = await startReplica();
  const standby = await primary.standby();
  const proxy = await openProxy(primary.url);
  return {
    url: proxy.url,
    async cutReplication() {
      await standby.sql(`alter system set primary_conninfo = ''`);
      await standby.sql('select pg_reload_conf()');
      await poll(async () => (await standby.sql('select from pg_stat_wal_receiver')).length === 0, EVERY);
    },
    async caughtUp() {
      const [row] = await primary.sql('select pg_current_wal_lsn()::text as lsn');
      const has = async () =>
        (await standby.sql(`select pg_last_wal_replay_lsn() >= '${row!.lsn}' as has`))[0]!.has;
      if (!(await poll(has, EVERY))) throw new Error('the standby does not follow');
    },
    async failOver() {
      proxy.cut();
      await primary.stop('immediate');
      await standby.sql('select pg_promote()');
      proxy.leadTo(standby.url);
      proxy.open();
    },
  };
}
