import type { GatewayRole } from '../cluster.ts';
import { between, type Fault, type FaultContext } from '../fault.ts';
import type { Link, LinkState } from '../link.ts';
import type { RoleLinks } from '../role.ts';

/** Puts links into a state for some seconds. */
async function withLinks(
  { random, history, now, note }: FaultContext,
  links: readonly Link[],
  state: LinkState,
  what: string,
  [fromMs, toMs]: readonly [number, number] = [1_500, 5_000],
): Promise<void> {
  note(`${what}: ${state.kind}`);
  const from = now();
  for (const link of links) link.set(state);
  try {
    await between(random, fromMs, toMs);
  } finally {
    for (const link of links) link.heal();
    history.held.push({ from, to: now() });
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

/** Breaks the links of all roles, or of one, to a kind of server. */
async function cutOff(context: FaultContext, kind: keyof RoleLinks, server: string): Promise<void> {
  const { cluster, random } = context;
  const roles = random.chance(0.5) ? cluster.roles : [random.pick(cluster.roles)];
  const links = roles.flatMap((role) => role.links[kind]);
  await withLinks(context, links, broken(context), `${server} and ${roles.map(({ name }) => name)}`);
}

export const brokerCutOff: Fault = {
  name: 'broker-cut-off',
  title: 'the network between roles and the broker fails',
  run: (context) => cutOff(context, 'broker', 'the broker'),
};

export const databaseCutOff: Fault = {
  name: 'database-cut-off',
  title: 'the network between roles and the database fails',
  run: (context) => cutOff(context, 'database', 'the database'),
};

export const cacheCutOff: Fault = {
  missing: ({ sentinels }) => (sentinels ? 'sentinels name servers by their own addresses' : undefined),
  name: 'cache-cut-off',
  title: 'the network between roles and Redis fails',
  run: (context) => cutOff(context, 'cache', 'Redis'),
};

export const gatewayCutOff: Fault = {
  name: 'gateway-cut-off',
  title: 'a gateway with open sockets loses its servers, or its clients',
  async run(context) {
    const { cluster, random } = context;
    const { role, front } = random.pick(cluster.gateways);
    const side = random.pick(['servers', 'clients'] as const);
    const links = side === 'servers' ? role.allLinks : [front];
    if (side === 'clients') context.history.framesHeld = true;
    await withLinks(context, links, broken(context), `${role.name} and its ${side}`);
  },
};

/** Kills a gateway while links hold up its messages to a kind of server, which never arrive. */
async function killBehind(
  { random, history, now, note }: FaultContext,
  { role }: GatewayRole,
  kind: keyof RoleLinks,
  state: LinkState,
  [fromMs, toMs]: readonly [number, number],
): Promise<void> {
  const since = now();
  for (const link of role.links[kind]) link.set(state);
  await between(random, fromMs, toMs);
  note(`kill -9 of ${role.name}`);
  await role.kill();
  // Held messages must not arrive later: the machine is gone.
  for (const link of role.links[kind]) {
    link.set({ kind: 'cut' });
    link.heal();
  }
  history.held.push({ from: since, to: now() });
  await role.start();
}

export const killedBeforePublish: Fault = {
  name: 'killed-before-publish',
  title: 'a gateway is killed after commits and before their events are published',
  async run(context) {
    const gateway = context.random.pick(context.cluster.gateways);
    context.note(`no message of ${gateway.role.name} reaches the broker`);
    await killBehind(context, gateway, 'broker', { kind: 'blackhole' }, [300, 1_000]);
  },
};

export const killedBeforeMark: Fault = {
  name: 'killed-before-mark',
  title: 'a gateway is killed after events are published and before they are marked as dispatched',
  async run(context) {
    const gateway = context.random.pick(context.cluster.gateways);
    context.note(`statements of ${gateway.role.name} take 300 ms longer`);
    await killBehind(context, gateway, 'database', { kind: 'delayed', ms: 300 }, [600, 1_500]);
  },
};

export const slowChecks: Fault = {
  name: 'slow-checks',
  title: 'a gateway with open sockets gets the answers of the database late',
  // Users unfollow often, through the other gateway, while checks are under way.
  pace: 0.25,
  async run(context) {
    const { gateways } = context.cluster;
    const slow = context.random.pick(gateways);
    const state: LinkState = { kind: 'delayed', ms: SLOW_MS, way: 'answer' };
    const what = `the database and ${slow.role.name}`;
    context.balance(gateways.filter((one) => one !== slow));
    await withLinks(context, slow.role.links.database, state, what, [5_000, 8_000]);
    context.balance(gateways);
  },
};
/** Shorter than the 0.4 s after which a gateway does not trust a check. */
const SLOW_MS = 320;
