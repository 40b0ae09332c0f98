import { availableParallelism, cpus, totalmem } from 'node:os';
import type { BenchCluster } from './benchCluster.ts';

/** Hardware and software of a benchmark. Its results mean little without them. */
export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGiB: number;
  readonly node: string;
  readonly postgres: string;
  readonly bus: string;
  readonly cache: string;
}

export async function describeMachine({ cluster, cache }: BenchCluster): Promise<Machine> {
  const server = await cluster.db.query<{ v: string }>(`select current_setting('server_version') as v`);
  return {
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: availableParallelism(),
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    node: process.version,
    postgres: server.rows[0]!.v,
    bus: cluster.bus.kind,
    cache: cache.kind,
  };
}
