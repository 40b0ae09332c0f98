import { between, type Fault, type FaultContext } from '../fault.ts';
import type { Link, LinkState } from '../link.ts';

/** Puts links into a state for some seconds. */
async function withLinks(
  { random, note }: FaultContext,
  links: readonly Link[],
  state: LinkState,
  what: string,
): Promise<void> {
  note(`${what}: ${state.kind}`);
  for (const link of links) link.set(state);
  try {
    await between(random, 1_500, 5_000);
  } finally {
    for (const link of links) link.heal();
  }
}

const broken = ({ random }: FaultContext): LinkState =>
  random.pick([
    { kind: 'blackhole' },
    { kind: 'half-open' },
    { kind: 'cut' },
    { kind: 'delayed', ms: 50 },
    { kind: 'throttled', bytesPerSecond: 50_000 },
  ]);

export const brokerCutOff: Fault = {
  name: 'broker-cut-off',
  title: 'the network between roles and the broker fails',
  async run(context) {
    const { cluster, random } = context;
    const roles = random.chance(0.5) ? cluster.roles : [random.pick(cluster.roles)];
    const links = roles.flatMap((role) => role.links.broker);
    await withLinks(context, links, broken(context), `the broker and ${roles.map(({ name }) => name)}`);
  },
};

export const databaseCutOff: Fault = {
  name: 'database-cut-off',
  title: 'the network between roles and the database fails',
  async run(context) {
    const { cluster, random } = context;
    const roles = random.chance(0.5) ? cluster.roles : [random.pick(cluster.roles)];
    const links = roles.flatMap((role) => role.links.database);
    await withLinks(context, links, broken(context), `the database and ${roles.map(({ name }) => name)}`);
  },
};

export const cacheCutOff: Fault = {
  missing: ({ sentinels }) => (sentinels ? 'sentinels name servers by their own addresses' : undefined),
  name: 'cache-cut-off',
  title: 'the network between roles and Redis fails',
  async run(context) {
    const { cluster, random } = context;
    const roles = random.chance(0.5) ? cluster.roles : [random.pick(cluster.roles)];
    const links = roles.flatMap((role) => role.links.cache);
    await withLinks(context, links, broken(context), `Redis and ${roles.map(({ name }) => name)}`);
  },
};

export const gatewayCutOff: Fault = {
  name: 'gateway-cut-off',
  title: 'a gateway with open sockets loses its servers, or its clients',
  async run(context) {
    const { cluster, random } = context;
    const { role, front } = random.pick(cluster.gateways);
    const side = random.pick(['servers', 'clients'] as const);
    const links = side === 'servers' ? role.allLinks : [front];
    if (side === 'clients') context.history.flightMs = Number.POSITIVE_INFINITY;
    await withLinks(context, links, broken(context), `${role.name} and its ${side}`);
  },
};

export const killedBeforePublish: Fault = {
  name: 'killed-before-publish',
  title: 'a gateway is killed after commits and before their events are published',
  async run({ cluster, random, note }) {
    const { role } = random.pick(cluster.gateways);
    note(`no message of ${role.name} reaches the broker`);
    for (const link of role.links.broker) link.set({ kind: 'blackhole' });
    await between(random, 300, 1_000);
    note(`kill -9 of ${role.name}`);
    await role.kill();
    // Held messages must not arrive later: the machine is gone.
    for (const link of role.links.broker) link.set({ kind: 'cut' });
    for (const link of role.links.broker) link.heal();
    await role.start();
  },
};

export const killedBeforeMark: Fault = {
  name: 'killed-before-mark',
  title: 'a gateway is killed after events are published and before they are marked as dispatched',
  async run({ cluster, random, note }) {
    const { role } = random.pick(cluster.gateways);
    note(`statements of ${role.name} take 300 ms longer`);
    for (const link of role.links.database) link.set({ kind: 'delayed', ms: 300 });
    await between(random, 600, 1_500);
    note(`kill -9 of ${role.name}`);
    await role.kill();
    for (const link of role.links.database) link.set({ kind: 'cut' });
    for (const link of role.links.database) link.heal();
    await role.start();
  },
};

export const slowChecks: Fault = {
  name: 'slow-checks',
  title: 'gateways get the answers of the database late',
  async run(context) {
    const { cluster } = context;
    const links = cluster.gateways.flatMap(({ role }) => role.links.database);
    await withLinks(context, links, { kind: 'delayed', ms: 150 }, 'the database and the gateways');
  },
};
