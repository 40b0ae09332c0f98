import { expect, onTestFinished, test } from 'vitest';
import { guardedBus } from '../../../src/engine/bus/guarded.ts';
import { LocalBus } from '../../../src/engine/bus/local/bus.ts';
import { openGuard } from '../../../src/engine/resilience/guard.ts';
import { openMetrics } from '../../../src/engine/telemetry/metrics.ts';
import { freshDatabase } from '../../support/cluster.ts';
import { rejection } from '../../support/codes.ts';
import { openProxy } from '../../support/proxy.ts';
import { openInbox } from './inbox.ts';

test('a bus that is away is left alone after a while, and used again when it is back', async () => {
  const proxy = await openProxy((await freshDatabase()).url);
  const metrics = await openMetrics();
  const bus = guardedBus(new LocalBus(proxy.url), openGuard({ dependency: 'broker', metrics }));
  onTestFinished(() => bus.close());
  const publish = (text: string) => bus.publish([{ queue: 'events', body: Buffer.from(text) }]);
  await publish('before');
  proxy.cut();
  const codes = new Set<string>();
  while (!codes.has('CIRCUIT_OPEN')) codes.add((await rejection(publish('nowhere'))).code);
  expect([...codes]).toEqual(['DATABASE_UNREACHABLE', 'CIRCUIT_OPEN']);
  expect(await metrics.text()).toContain('feedctl_dependency_circuit_state{dependency="broker"} 2');
  proxy.open();
  await expect
    .poll(() =>
      publish('after').then(
        () => true,
        () => false,
      ),
    )
    .toBe(true);
  expect(await metrics.text()).toContain('feedctl_dependency_circuit_state{dependency="broker"} 0');
  const inbox = await openInbox(bus, { queues: ['events'], prefetch: 10 });
  expect((await inbox.take(2)).map(({ body }) => body.toString())).toEqual(['before', 'after']);
});
