import type { Check } from '../../model/check.ts';
import { DURABLE_QUEUES } from '../bus.ts';
import type { Declared, Management, Policy } from './management.ts';
import { PROBE } from './probe.ts';
import {
  DEAD_DELIVERY_LIMIT,
  DEAD_LETTERS,
  DELIVERY_LIMIT,
  deadQueue,
  durableQueue,
  EXCHANGES,
  LIVE_EXPIRES_MS,
  liveQueue,
  partitionsOf,
  type QueueLimits,
} from './queueNames.ts';

/** The broker's default. Below it a server that is away for minutes costs workers their messages. */
const CONSUMER_TIMEOUT_MS = 1_800_000;
/** Names of queues in a message before it counts the others. */
const MAX_NAMES = 2;

type Role = 'durable' | 'dead' | 'live' | 'exchange';

/** A queue or an exchange of the cluster, which may not exist yet. */
interface Target {
  readonly name: string;
  readonly role: Role;
  /** undefined: it does not exist. */
  readonly declared: Declared | undefined;
}

interface Context {
  readonly limits: QueueLimits;
  /** First number of the broker's version. */
  readonly major: number;
}

/** Returns the effect of a value that harms the cluster. undefined: it is harmless. */
type Rule = (value: unknown, role: Role, context: Context) => string | undefined;

const always =
  (effect: string): Rule =>
  () =>
    effect;
const harmless: Rule = () => undefined;
const below =
  (limit: (role: Role, context: Context) => number, effect: string): Rule =>
  (value, role, context) =>
    Number(value) < limit(role, context) ? effect : undefined;

/** The argument of a queue wins over a policy, and only partitions and cleanups have this one. */
const deadLettering: Rule = (_, role) =>
  role === 'durable' ? undefined : 'diverts messages to an exchange that feedctl does not read';

const deliveryLimit: Rule = (value, role, { major }) => {
  const limit = Number(value);
  // Classic queues do not count deliveries. Below zero is no limit on 4.x, and no delivery on 3.x.
  if (role === 'live' || (limit < 0 && major >= 4)) return undefined;
  if (role === 'dead')
    return limit < DEAD_DELIVERY_LIMIT ? 'drops dead letters that were returned too often' : undefined;
  return limit < DELIVERY_LIMIT ? 'dead-letters good messages after a few crashes' : undefined;
};

const federation = always('moves messages between brokers');

/**
 * Every key of a policy, and every `x-` argument without its prefix, of RabbitMQ 3.10 to 4.3 and its
 * plugins. Numeric limits of a policy and of a queue are merged: the lower one counts.
 */
const QUEUE_RULES: Readonly<Record<string, Rule>> = {
  'message-ttl': always('expires messages'),
  expires: (value, role) =>
    role === 'live' && Number(value) >= LIVE_EXPIRES_MS
      ? undefined
      : 'deletes a queue with its messages while it has no consumer',
  'max-length': below((_, { limits }) => limits.maxMessages, 'limits a queue below feedctl’s own limit'),
  'max-length-bytes': below((_, { limits }) => limits.maxBytes, 'limits a queue below feedctl’s own limit'),
  overflow: (value) => (value === 'reject-publish' ? undefined : 'drops messages of a full queue silently'),
  'dead-letter-exchange': deadLettering,
  'dead-letter-routing-key': deadLettering,
  'dead-letter-strategy': harmless,
  'delivery-limit': deliveryLimit,
  'consumer-timeout': below(() => CONSUMER_TIMEOUT_MS, 'takes messages from workers that wait for a server'),
  'delayed-retry-type': (value) =>
    value === 'disabled' ? undefined : 'delays returned messages, which later ones then overtake',
  'delayed-retry-min': harmless,
  'delayed-retry-max': harmless,
  'federation-upstream': federation,
  'federation-upstream-set': federation,
  'federation-upstream-pattern': federation,
  'consumer-disconnected-timeout': harmless,
  'max-in-memory-length': harmless,
  'max-in-memory-bytes': harmless,
  'queue-mode': harmless,
  'queue-version': harmless,
  'queue-type': harmless,
  'queue-master-locator': harmless,
  'queue-leader-locator': harmless,
  'initial-cluster-size': harmless,
  'quorum-initial-group-size': harmless,
  'target-group-size': harmless,
  'single-active-consumer': harmless,
  'max-age': harmless,
  'stream-max-segment-size-bytes': harmless,
  'stream-filter-size-bytes': harmless,
  'ha-mode': harmless,
  'ha-params': harmless,
  'ha-sync-mode': harmless,
  'ha-sync-batch-size': harmless,
  'ha-promote-on-shutdown': harmless,
  'ha-promote-on-failure': harmless,
};

const EXCHANGE_RULES: Readonly<Record<string, Rule>> = {
  'alternate-exchange': always('takes messages without a queue, which feedctl would publish again'),
  'federation-upstream': federation,
  'federation-upstream-set': federation,
  'federation-upstream-pattern': federation,
  'hash-header': always('spreads events by something else than their author'),
  'hash-property': always('spreads events by something else than their author'),
};

const isQueue = (role: Role): boolean => role !== 'exchange';

/** Returns the effect of a key, or that feedctl does not know it. undefined: it is harmless. */
function effectOf(key: string, value: unknown, role: Role, context: Context): Effect | undefined {
  const [own, other] = isQueue(role) ? [QUEUE_RULES, EXCHANGE_RULES] : [EXCHANGE_RULES, QUEUE_RULES];
  const rule = own[key];
  if (rule) {
    const text = rule(value, role, context);
    return text === undefined ? undefined : { text, known: true };
  }
  return key in other ? undefined : { text: 'has an effect that feedctl does not know', known: false };
}

interface Effect {
  readonly text: string;
  readonly known: boolean;
}

const PARTITION = /^feed\.(events|events\.bulk|rows\.live|rows\.bulk)\.\d+$/;

/** Returns the part of a queue in the cluster. undefined: the queue is another program's. */
function roleOfQueue(name: string): Role | undefined {
  if (name === 'feed.cleanup' || PARTITION.test(name)) return 'durable';
  if (DEAD_LETTERS.includes(name)) return 'dead';
  return name.startsWith('feed.live.') ? 'live' : undefined;
}

/** Returns every queue and exchange of the cluster: those it needs, and others that exist. */
function targetsOf({ queues, exchanges }: Management, partitions: number): Target[] {
  const existing = new Map(queues.map((queue) => [queue.name, queue]));
  const names = new Set([
    ...DURABLE_QUEUES.flatMap((queue) => partitionsOf(queue, partitions)),
    ...DEAD_LETTERS,
    // Gateways declare their queues when they start.
    'feed.live.gateway',
    ...existing.keys(),
  ]);
  const targets: Target[] = [];
  for (const name of names) {
    const role = roleOfQueue(name);
    if (role) targets.push({ name, role, declared: existing.get(name) });
  }
  for (const name of Object.values(EXCHANGES))
    targets.push({ name, role: 'exchange', declared: exchanges.find((one) => one.name === name) });
  return targets;
}

/** Returns the type of a queue. A queue that does not exist yet gets the type that feedctl declares. */
const typeOf = ({ role, declared }: Target): string =>
  declared?.type ?? (role === 'live' ? 'classic' : 'quorum');

function fits(policy: Policy, target: Target): boolean {
  const to = policy['apply-to'];
  if (to === 'all') return true;
  if (!isQueue(target.role)) return to === 'exchanges';
  return to === 'queues' || to === `${typeOf(target)}_queues`;
}

/**
 * Returns whether the pattern of a policy matches a name. The broker's patterns are Perl's. One that
 * JavaScript cannot read matches where the broker says that the policy applies.
 */
function matches(policy: Policy, target: Target, applied: string | null | undefined): boolean {
  const [, flags = '', pattern] = /^(?:\(\?([ims]+)\))?(.*)$/s.exec(policy.pattern)!;
  try {
    return new RegExp(pattern!, flags).test(target.name);
  } catch {
    return applied === policy.name;
  }
}

/** Returns the policies in force: of those that match, only the one of the highest priority applies. */
function inForce(
  policies: readonly Policy[],
  target: Target,
  applied: string | null | undefined,
): readonly Policy[] {
  const candidates = policies.filter((policy) => fits(policy, target) && matches(policy, target, applied));
  const highest = Math.max(...candidates.map(({ priority }) => priority));
  return candidates.filter(({ priority }) => priority === highest);
}

const policiesOf = (management: Management, target: Target): readonly Policy[] => [
  ...inForce(management.policies, target, target.declared?.policy),
  ...inForce(management.operatorPolicies, target, target.declared?.operator_policy),
];

/** Groups targets by a sentence about them. */
class Findings {
  readonly #names = new Map<string, string[]>();

  add(sentence: string, name: string): void {
    this.#names.set(sentence, [...(this.#names.get(sentence) ?? []), name]);
  }

  get any(): boolean {
    return this.#names.size > 0;
  }

  toString(): string {
    return [...this.#names]
      .map(([sentence, names]) => {
        const others = names.length > MAX_NAMES ? ` and ${names.length - MAX_NAMES} more` : '';
        return `${sentence} (${names.slice(0, MAX_NAMES).join(', ')}${others})`;
      })
      .join('; ');
  }
}

interface Situation extends Context {
  readonly vhost: string;
  readonly partitions: number;
}

/** Finds what drops, limits, expires or diverts messages of any queue or exchange of the cluster. */
export function checkPolicies(management: Management, situation: Situation): Check[] {
  const targets = targetsOf(management, situation.partitions);
  return [
    policyCheck(management, targets, situation),
    ...argumentChecks(targets, situation),
    ...bindingChecks(management, targets),
    ...shovelChecks(management, targets),
  ];
}

function policyCheck(management: Management, targets: readonly Target[], situation: Situation): Check {
  const harmful = new Findings();
  const unknown = new Findings();
  const fixes = new Set<string>();
  for (const target of targets) {
    for (const policy of policiesOf(management, target)) {
      for (const [key, value] of Object.entries(policy.definition)) {
        const effect = effectOf(key, value, target.role, situation);
        if (!effect) continue;
        const sentence = `${policy.name}: ${key}=${String(value)} ${effect.text}`;
        (effect.known ? harmful : unknown).add(sentence, target.name);
        const clear = management.operatorPolicies.includes(policy) ? 'clear_operator_policy' : 'clear_policy';
        fixes.add(`\`rabbitmqctl ${clear} -p ${situation.vhost} ${policy.name}\``);
      }
    }
  }
  const name = 'broker policies';
  if (!harmful.any && !unknown.any) return { name, status: 'ok', detail: 'none that drops messages' };
  return {
    name,
    status: harmful.any ? 'fault' : 'warning',
    detail: [harmful, unknown].filter(({ any }) => any).join('; '),
    fix: `Narrow the pattern of that policy, or clear it: ${[...fixes].join(', ')}.`,
  };
}

/** Finds arguments that differ from those that feedctl declares: another program made that object. */
function argumentChecks(targets: readonly Target[], situation: Situation): Check[] {
  const { limits } = situation;
  const harmful = new Findings();
  for (const { name, role, declared } of targets) {
    const own: Record<string, unknown> =
      role === 'durable'
        ? durableQueue(name.replace(/^feed\./, '').replace(/\.\d+$/, ''), limits).arguments
        : role === 'dead'
          ? deadQueue(limits).arguments
          : role === 'live'
            ? liveQueue(limits).arguments
            : {};
    for (const [argument, value] of Object.entries(declared?.arguments ?? {})) {
      if (own[argument] === value) continue;
      const key = argument.replace(/^x-/, '');
      const effect = effectOf(key, value, role, situation);
      if (effect?.known) harmful.add(`${argument}=${String(value)} ${effect.text}`, name);
    }
  }
  if (!harmful.any) return [];
  return [
    {
      name: 'broker arguments',
      status: 'fault',
      detail: String(harmful),
      fix: 'Stop what declares it so, delete it when it is empty, then run `feedctl migrate`.',
    },
  ];
}

/** Finds queues of other programs at feedctl's exchanges. A consistent-hash exchange gives them a share. */
function bindingChecks({ bindings }: Management, targets: readonly Target[]): Check[] {
  const ours = new Set(targets.map(({ name }) => name));
  const exchanges: readonly string[] = Object.values(EXCHANGES);
  const foreign = bindings.filter(
    ({ source, destination }) =>
      exchanges.includes(source) && !ours.has(destination) && !destination.startsWith(PROBE),
  );
  if (foreign.length === 0) return [];
  const shares = foreign.some(({ source }) => source.startsWith(EXCHANGES.events));
  return [
    {
      name: 'broker bindings',
      status: shares ? 'fault' : 'warning',
      detail: `${foreign.map(({ source, destination }) => `${source} sends to ${destination}`).join(', ')}`,
      fix: 'Remove that binding: its queue takes messages of the cluster, or hides that no queue takes them.',
    },
  ];
}

/** Finds shovels that move messages out of queues or exchanges of these names. */
function shovelChecks({ shovels }: Management, targets: readonly Target[]): Check[] {
  const ours = new Set(targets.map(({ name }) => name));
  const moving = shovels.filter(({ value }) =>
    ['src-queue', 'src-exchange'].some((source) => ours.has(String(value[source]))),
  );
  if (moving.length === 0) return [];
  return [
    {
      name: 'broker shovels',
      status: 'warning',
      detail: `${moving.map(({ name }) => name).join(', ')} would move messages of the cluster`,
      fix: 'Delete that shovel, unless its source is another broker.',
    },
  ];
}

/**
 * Finds queues of dead letters whose delivery limit no policy raises. `unlimited`: those without a limit
 * of their own. `management`: undefined if it cannot be read.
 */
export function checkDeadLetterLimits(
  unlimited: readonly string[],
  management: Management | undefined,
  situation: Situation,
): Check[] {
  const unsafe = new Set<string>(unlimited);
  // Only one policy applies to a queue: the new one keeps what is harmless of the others.
  const kept: Record<string, unknown> = {};
  let priority = 0;
  for (const target of management ? targetsOf(management, situation.partitions) : []) {
    if (!management || !unsafe.has(target.name)) continue;
    const limits = policiesOf(management, target).flatMap(
      ({ definition }) => definition['delivery-limit'] ?? [],
    );
    const raised = limits.every((limit) => deliveryLimit(limit, 'dead', situation) === undefined);
    if (limits.length > 0 && raised) unsafe.delete(target.name);
    for (const policy of inForce(management.policies, target, target.declared?.policy)) {
      priority = Math.max(priority, policy.priority + 1);
      for (const [key, value] of Object.entries(policy.definition))
        if (!effectOf(key, value, target.role, situation)) kept[key] = value;
    }
  }
  if (unsafe.size === 0) return [];
  const { major, vhost } = situation;
  const definition = JSON.stringify({ ...kept, 'delivery-limit': DEAD_DELIVERY_LIMIT });
  const names = [...unsafe].join(', ');
  return [
    {
      name: 'broker dead letters',
      status: major >= 4 && management ? 'fault' : 'warning',
      detail:
        `${names} have no delivery limit${management ? '' : ', unless a policy sets one'}: ` +
        'RabbitMQ 4 then drops a dead letter that is read and not kept',
      fix:
        `Run \`rabbitmqctl set_policy -p ${vhost} --priority ${priority} --apply-to queues ` +
        `feedctl-dead-letters '^feed\\.dead\\.' '${definition}'\`.`,
    },
  ];
}
