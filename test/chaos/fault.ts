import { setTimeout as sleep } from 'node:timers/promises';
import type { Random } from '../properties/random.ts';
import type { ChaosCluster, GatewayRole } from './cluster.ts';
import type { History } from './history.ts';
import type { Finding } from './rules.ts';

export interface FaultContext {
  readonly cluster: ChaosCluster;
  readonly random: Random;
  readonly history: History;
  now(): number;
  /** Notes what happens, with its time, in the history of the round. */
  note(text: string): void;
  /** Sends requests to these gateways only, as a load balancer does. Open sockets stay where they are. */
  balance(gateways: readonly GatewayRole[]): void;
  /** Adds a check of this fault to those of the round. It runs when all is quiet. */
  check(findings: () => Promise<Finding[]>): void;
}

/**
 * One kind of failure. `run` brings it about while clients work, and ends with the cluster as an operator or
 * an orchestrator leaves it: killed processes are started again.
 */
export interface Fault {
  readonly name: string;
  readonly title: string;
  /** The fault needs a cluster of another kind, which no other fault gets. */
  readonly needs?: 'previous release' | 'Citus';
  /** Returns why the fault cannot happen to this cluster. */
  missing?(cluster: ChaosCluster): string | undefined | Promise<string | undefined>;
  /** Share of the usual pause between two requests. */
  readonly pace?: number;
  run(context: FaultContext): Promise<void>;
}

/** Waits a random time, as long as a fault lasts. */
export const between = (random: Random, fromMs: number, toMs: number): Promise<void> =>
  sleep(fromMs + random.next() * (toMs - fromMs));
