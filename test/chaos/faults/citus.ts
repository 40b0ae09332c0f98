import { setTimeout as sleep } from 'node:timers/promises';
import { citusNodes } from '../../../src/engine/shards/nodesSql.ts';
import { readShards } from '../../../src/engine/shards/sql.ts';
import { movableShard } from '../../support/shardMoves.ts';
import { between, type Fault, type FaultContext } from '../fault.ts';

const MOVED = 2;
const POLL_MS = 250;

export const citusNodeKilled: Fault = {
  name: 'citus-node-killed',
  title: 'a node of Citus, or the coordinator, ends without a checkpoint and starts again',
  needs: 'Citus',
  async run({ cluster, random, note }) {
    const node = random.pick(cluster.citus);
    note(node === cluster.citus[0] ? 'the coordinator ends' : `the node at ${node.port} ends`);
    await node.crash();
    await between(random, 500, 3_000);
    await node.start();
  },
};

export const citusShardMoved: Fault = {
  name: 'citus-shard-moved',
  title: 'shards of Citus move to another node, and a worker is killed meanwhile',
  needs: 'Citus',
  async run({ cluster, random, note }) {
    for (let i = 0; i < MOVED; i += 1) {
      const { shard, to } = await movableShard(cluster.db, random.below(8));
      const worker = random.pick(cluster.workers);
      note(`feedctl shards move ${shard} ${to}`);
      await Promise.all([
        cluster.json('shards', 'move', String(shard), to, '--yes'),
        between(random, 100, 1_500).then(() => worker.kill()),
      ]);
      await worker.start();
    }
  },
};

export const citusRebalanceInterrupted: Fault = {
  name: 'citus-rebalance-interrupted',
  title: 'a rebalance of Citus is stopped, or loses a node, and runs again',
  needs: 'Citus',
  async run(context) {
    const { cluster, random, note } = context;
    await crowdOneNode(context);
    const running = cluster.run('shards', 'rebalance', '--yes', '--json');
    note('feedctl shards rebalance');
    await between(random, 300, 2_500);
    if (random.chance(0.5)) {
      note('feedctl shards rebalance --stop');
      await cluster.run('shards', 'rebalance', '--stop', '--yes', '--json');
    } else {
      const node = random.pick(cluster.citus.slice(1));
      note(`the node at ${node.port} ends`);
      await node.crash();
      await between(random, 500, 1_500);
      await node.start();
    }
    await running;
    note('feedctl shards rebalance, again');
    for (let tries = 1; ; tries += 1) {
      const { status, stdout, stderr } = await cluster.run('shards', 'rebalance', '--yes', '--json');
      if (status === 0) return;
      note(`it ended with ${status}: ${stderr.trim().slice(-200)}`);
      if (tries === 20) throw new Error(`the rebalance does not end: ${stdout}${stderr}`);
      await sleep(POLL_MS);
    }
  },
};

/** Moves shards to one node, so that a rebalance has work. */
async function crowdOneNode({ cluster, note }: FaultContext): Promise<void> {
  const target = (await citusNodes(cluster.db)).find(({ takesShards }) => takesShards)!;
  const others = (await readShards(cluster.db)).filter(({ nodeId }) => nodeId !== target.id);
  for (const { shard } of others.slice(0, MOVED)) {
    note(`feedctl shards move ${shard} ${target.name}`);
    await cluster.json('shards', 'move', String(shard), target.name, '--yes');
  }
}
