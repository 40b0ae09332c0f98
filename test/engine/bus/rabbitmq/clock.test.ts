import { setImmediate as nextTurn } from 'node:timers/promises';
import { expect, onTestFinished, test } from 'vitest';
import { Connection } from '../../../../src/engine/bus/rabbitmq/connection.ts';
import { silentLog } from '../../../../src/engine/telemetry/log.ts';
import { ServerUrl } from '../../../../src/engine/util/serverUrl.ts';
import { freshVhost } from '../../../support/broker.ts';
import { settableClock } from '../../../support/clock.ts';
import { rejection } from '../../../support/codes.ts';
import { openProxy } from '../../../support/proxy.ts';
import { findServer } from '../../../support/server.ts';

const server = await findServer('rabbitmq');

test.skipIf(!server)('a wait for the broker ends although the clock is set back during it', async () => {
  const { url } = await freshVhost(server!);
  const proxy = await openProxy(url);
  const through = new URL(url);
  through.host = new URL(proxy.url).host;
  const clock = settableClock();
  const connection = new Connection(ServerUrl.of(through.href), 'test', silentLog);
  onTestFinished(() => connection.close());
  const lost = Promise.withResolvers<void>();
  (await connection.ready(5_000)).once('close', () => lost.resolve());
  proxy.cut();
  await lost.promise;
  const waiting = rejection(connection.ready(500));
  // The wait begins after its first turn.
  await nextTurn();
  clock.aheadMs = -3_600_000;
  expect(await waiting).toMatchObject({ code: 'BROKER_UNREACHABLE' });
});
