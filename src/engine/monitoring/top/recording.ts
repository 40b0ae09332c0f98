import { once } from 'node:events';
import { createReadStream, createWriteStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import type { Writable } from 'node:stream';
import { constants, createGunzip, createGzip, type Gzip } from 'node:zlib';
import { FeedctlError, messageOf } from '../../model/errors.ts';
import { History } from './history.ts';
import type { TopSnapshot } from './snapshot.ts';
import { HEAD, parseSnapshot, snapshotText } from './snapshotText.ts';

/** A process that is killed loses at most this much of a compressed recording. */
const FLUSH_MS = 5_000;

const isCompressed = (path: string): boolean => path.endsWith('.gz');

/** Writes snapshots to a file, one line each. */
export interface Recorder {
  readonly path: string;
  /** Number of snapshots so far. */
  readonly count: number;
  /** The error after which nothing more is written. */
  readonly error: FeedctlError | undefined;
  write(snapshot: TopSnapshot): void;
  close(): Promise<void>;
}

/** Creates the file. Throws FILE_UNWRITABLE if it exists already or cannot be created. */
export async function openRecorder(path: string): Promise<Recorder> {
  const failed = (error: unknown) =>
    new FeedctlError('FILE_UNWRITABLE', `cannot write ${path}: ${messageOf(error)}`, { cause: error });
  const handle = await open(path, 'wx').catch((error: unknown) => {
    if ((error as { code?: string }).code === 'EEXIST')
      throw new FeedctlError('FILE_UNWRITABLE', `${path} exists already`);
    throw failed(error);
  });
  const file = createWriteStream(path, { fd: handle });
  const gzip: Gzip | undefined = isCompressed(path) ? createGzip() : undefined;
  gzip?.pipe(file);
  const sink: Writable = gzip ?? file;
  let count = 0;
  let error: FeedctlError | undefined;
  let flushedAt = performance.now();
  const onError = (reason: unknown) => {
    error ??= failed(reason);
  };
  file.on('error', onError);
  gzip?.on('error', onError);
  sink.write(`${JSON.stringify(HEAD)}\n`);
  return {
    path,
    get count() {
      return count;
    },
    get error() {
      return error;
    },
    write(snapshot) {
      if (error) return;
      sink.write(`${snapshotText(snapshot)}\n`);
      count += 1;
      if (!gzip || performance.now() < flushedAt + FLUSH_MS) return;
      flushedAt = performance.now();
      gzip.flush(constants.Z_SYNC_FLUSH);
    },
    async close() {
      if (error || file.closed) return;
      const closed = once(file, 'close').catch(() => {});
      sink.end();
      await closed;
    },
  };
}

export interface Recording {
  readonly history: History;
  readonly count: number;
  /** The file ends within a line, as after a crash. */
  readonly cut: boolean;
}

/**
 * Reads a recording. `each` is called with every snapshot. A file that was cut keeps its whole lines.
 * Throws FILE_NOT_FOUND, FILE_UNREADABLE, and RECORDING_DAMAGED for a file that is no recording.
 */
export async function readRecording(
  path: string,
  each: (snapshot: TopSnapshot) => void = () => {},
): Promise<Recording> {
  const history = new History();
  let number = 0;
  let count = 0;
  let unread: FeedctlError | undefined;
  try {
    for await (const line of linesOf(path)) {
      // Only the last line may be cut.
      if (unread) throw unread;
      number += 1;
      const place = `line ${number} of ${path}`;
      if (number === 1) checkHead(line, path);
      else
        try {
          const snapshot = parseSnapshot(line, place);
          history.add(Date.parse(snapshot.takenAt), line);
          each(snapshot);
          count += 1;
        } catch (error) {
          unread = error as FeedctlError;
        }
    }
  } catch (error) {
    throw readError(error, path);
  }
  if (unread && !unread.message.endsWith('is no JSON')) throw unread;
  if (count === 0) throw new FeedctlError('RECORDING_DAMAGED', `${path} has no snapshot`);
  return { history, count, cut: unread !== undefined };
}

async function* linesOf(path: string): AsyncGenerator<string> {
  const file = createReadStream(path);
  // The end of data that was cut is no error: the lines before it are whole.
  const gunzip = isCompressed(path) ? createGunzip({ finishFlush: constants.Z_SYNC_FLUSH }) : undefined;
  let failure: unknown;
  const fail = (error: unknown) => {
    failure ??= error;
    gunzip?.end();
  };
  file.on('error', fail);
  gunzip?.on('error', fail);
  const text = gunzip ? file.pipe(gunzip) : file;
  const lines = createInterface({ input: text, crlfDelay: Number.POSITIVE_INFINITY });
  text.on('error', () => lines.close());
  yield* lines;
  if (failure) throw failure;
}

function checkHead(line: string, path: string): void {
  let head: { recording?: unknown; version?: unknown } = {};
  try {
    head = Object(JSON.parse(line));
  } catch {}
  if (head.recording !== HEAD.recording)
    throw new FeedctlError('RECORDING_DAMAGED', `${path} is no recording of top`);
  if (head.version !== HEAD.version)
    throw new FeedctlError('RECORDING_DAMAGED', `${path} has the format ${head.version} of a newer feedctl`);
}

function readError(error: unknown, path: string): FeedctlError {
  if (error instanceof FeedctlError) return error;
  const { code } = error as { code?: string };
  if (code?.startsWith('Z_')) return new FeedctlError('RECORDING_DAMAGED', `${path} is no sound gzip file`);
  if (code === 'ENOENT') return new FeedctlError('FILE_NOT_FOUND', `${path} does not exist`);
  return new FeedctlError('FILE_UNREADABLE', `cannot read ${path}: ${messageOf(error)}`, { cause: error });
}
