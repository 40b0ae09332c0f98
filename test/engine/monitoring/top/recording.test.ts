import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { History } from '../../../../src/engine/monitoring/top/history.ts';
import { openRecorder, readRecording } from '../../../../src/engine/monitoring/top/recording.ts';
import { snapshotOf, type TopSnapshot } from '../../../../src/engine/monitoring/top/snapshot.ts';
import { snapshotText } from '../../../../src/engine/monitoring/top/snapshotText.ts';
import { temporaryDirectory } from '../../../support/cli.ts';

const NOON = Date.UTC(2026, 0, 1, 12);

const snapshotAt = (seconds: number): TopSnapshot =>
  snapshotOf({
    ...{ context: 'local', production: false, bus: 'local', sources: [], backlogSeries: [seconds] },
    known: {
      gateways: [
        {
          ...{ id: 'g1', url: 'http://10.0.0.1:7070', heartbeatAgeMs: 5, online: 1, replaced: false },
          startedAt: new Date(NOON),
        },
      ],
    },
    at: new Date(NOON + seconds * 1_000),
  });

test.for(['top.ndjson', 'top.ndjson.gz'])('%s: what was recorded is what is replayed', async (name) => {
  const path = join(await temporaryDirectory(), name);
  const recorder = await openRecorder(path);
  for (const seconds of [0, 1, 2]) recorder.write(snapshotAt(seconds));
  await recorder.close();
  expect([recorder.count, recorder.error]).toEqual([3, undefined]);
  const seen: TopSnapshot[] = [];
  const { history, count, cut } = await readRecording(path, (snapshot) => seen.push(snapshot));
  expect({ count, cut }).toEqual({ count: 3, cut: false });
  // Dates are dates again.
  expect(seen).toEqual([0, 1, 2].map(snapshotAt));
  expect(history.times).toEqual([0, 1_000, 2_000].map((ms) => NOON + ms));
  expect(history.at(NOON + 1_500)).toEqual(snapshotAt(1));
  expect(history.at(0)).toEqual(snapshotAt(0));
  await expect(openRecorder(path)).rejects.toMatchObject({
    code: 'FILE_UNWRITABLE',
    message: `${path} exists already`,
  });
});

test('a recording that was cut is replayed as far as it goes; a damaged one says where', async () => {
  const directory = await temporaryDirectory();
  const path = join(directory, 'whole.ndjson.gz');
  const recorder = await openRecorder(path);
  for (const seconds of [0, 1, 2]) recorder.write(snapshotAt(seconds));
  await recorder.close();
  const text = gunzipSync(await readFile(path)).toString();
  const write = async (name: string, data: string | Buffer) => {
    await writeFile(join(directory, name), data);
    return readRecording(join(directory, name)).then(
      ({ count, cut }) => ({ count, cut }),
      ({ code, message }) => `${code} ${message.replaceAll(directory, '')}`,
    );
  };
  expect(await write('cut.ndjson', text.slice(0, -20))).toEqual({ count: 2, cut: true });
  const packed = gzipSync(text, { level: 0 });
  expect(await write('cut.ndjson.gz', packed.subarray(0, packed.length - 300))).toEqual({
    count: 2,
    cut: true,
  });
  const lines = text.split('\n');
  expect(await write('a.ndjson', text.replace('"takenAt"', '"taken"'))).toBe(
    'RECORDING_DAMAGED line 2 of /a.ndjson is no snapshot of top',
  );
  expect(await write('b.ndjson', [lines[0], '{"a', ...lines.slice(1)].join('\n'))).toBe(
    'RECORDING_DAMAGED line 2 of /b.ndjson is no JSON',
  );
  expect(await write('c.ndjson', lines.slice(1).join('\n'))).toBe(
    'RECORDING_DAMAGED /c.ndjson is no recording of top',
  );
  expect(await write('d.ndjson', `${lines[0]}\n`)).toBe('RECORDING_DAMAGED /d.ndjson has no snapshot');
  expect(await write('e.ndjson', '')).toBe('RECORDING_DAMAGED /e.ndjson has no snapshot');
  expect(await write('f.ndjson.gz', text)).toBe('RECORDING_DAMAGED /f.ndjson.gz is no sound gzip file');
  expect(await write('g.ndjson', text.replace('"version":1', '"version":2'))).toContain('of a newer feedctl');
});

test('an hour of views is kept, one in five seconds', () => {
  const history = new History();
  for (let seconds = 0; seconds <= 3_700; seconds += 1) history.keep(snapshotAt(seconds));
  const { times } = history;
  expect(times[0]).toBeGreaterThanOrEqual(NOON + 100_000);
  // A slow machine rests longer between two of them.
  expect(times.every((time, i) => i === 0 || time >= times[i - 1]! + 5_000)).toBe(true);
  expect(times.length).toBeGreaterThan(100);
  expect(history.at(times[5]!)).toEqual(snapshotAt((times[5]! - NOON) / 1_000));
  expect(snapshotText(snapshotAt(0))).not.toContain('\n');
});
