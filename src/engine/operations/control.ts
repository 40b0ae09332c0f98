import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Database } from '../database/database.ts';
import { readRecords } from '../files/records.ts';
import { FeedctlError, messageOf } from '../model/errors.ts';
import type { OperationInput } from '../model/operation.ts';
import { cancelInterrupted, getCommand, getOperation, type OperationRow, requestCancel } from './table.ts';

const POLL_MS = 200;

export interface CancelResult {
  readonly id: number;
  /** `running`: it has been asked to stop, and had not by the time limit. */
  readonly state: OperationRow['state'];
  /** Its state before. */
  readonly was: OperationRow['state'];
  readonly dryRun: boolean;
}

/**
 * Ends an operation: one that runs, wherever that is, stops at its next safe point; one that was interrupted or failed is not gone
 * on with. What was done stays. Throws OPERATION_NOT_FOUND or OPERATION_NOT_CANCELLABLE.
 */
export async function cancelOperation(
  db: Database,
  id: number,
  options: { by: string; dryRun: boolean; waitMs: number; signal: AbortSignal },
): Promise<CancelResult> {
  const { by, dryRun, signal } = options;
  const until = performance.now() + options.waitMs;
  let was: OperationRow['state'] | undefined;
  for (;;) {
    const operation = await getOperation(db, id);
    const { state } = operation;
    was ??= state;
    if (state === 'cancelled' && was !== 'cancelled') return { id, state, was, dryRun };
    refuseEnded(operation, was);
    if (dryRun) return { id, state: 'cancelled', was, dryRun };
    if (state !== 'running') await cancelInterrupted(db, id, by);
    else if (operation.cancelRequestedAt === null) await requestCancel(db, id, by);
    else if (signal.aborted || performance.now() > until) return { id, state, was, dryRun };
    else await sleep(POLL_MS, undefined, { signal }).catch(() => {});
  }
}

function refuseEnded(
  { id, state, halfDone, cancelRequestedAt }: OperationRow,
  was: OperationRow['state'],
): void {
  const refuse = (why: string, suggestions?: string[]) => {
    throw new FeedctlError('OPERATION_NOT_CANCELLABLE', why, suggestions && { suggestions });
  };
  if (state === 'done' || state === 'cancelled')
    refuse(
      was === state ? `operation ${id} is ${state} already` : `operation ${id} has ended: it is ${state}`,
    );
  if (halfDone !== null && cancelRequestedAt === null)
    refuse(`operation ${id} must not end now: ${halfDone}`, [
      state === 'running' ? 'Wait until it is done.' : `Go on with it: \`feedctl operation resume ${id}\`.`,
    ]);
}

/**
 * The command line that goes on with an operation, its files looked at; `key`: the name of what it works on. Throws OPERATION_NOT_FOUND, OPERATION_NOT_RESUMABLE,
 * OPERATION_RUNNING or OPERATION_INPUT_CHANGED.
 */
export async function resumption(
  db: Database,
  id: number,
): Promise<{ command: string; args: string[]; key: string }> {
  const { operation, command, later } = await getCommand(db, id);
  const { state, who } = operation;
  const refuse = (why: string, suggestions?: string[]) =>
    new FeedctlError('OPERATION_NOT_RESUMABLE', `operation ${id} ${why}`, suggestions && { suggestions });
  if (state === 'running')
    throw new FeedctlError('OPERATION_RUNNING', `operation ${id} is running, by ${who ?? 'somebody'}`);
  if (state === 'done' || state === 'cancelled') throw refuse(state === 'done' ? 'is done' : 'was cancelled');
  if (later !== undefined)
    throw refuse(`is not the last of this work: operation ${later} came after it`, [
      `See \`feedctl operation show ${later}\`.`,
    ]);
  if (!command)
    throw refuse('was begun by no command', [
      // What is half done names the commands that end it.
      `A worker goes on with it by itself${operation.halfDone ? `; or: ${operation.halfDone}.` : '.'}`,
    ]);
  for (const input of command.inputs) await checkInput(id, input);
  const args = command.args.map((arg) => withPath(arg, command.inputs));
  return { command: command.id, args, key: operation.key };
}

async function checkInput(id: number, { path, digest }: OperationInput): Promise<void> {
  const changed = (why: string, cause?: unknown) =>
    new FeedctlError('OPERATION_INPUT_CHANGED', `operation ${id} cannot go on: ${why}`, { cause });
  const hash = createHash('sha256');
  try {
    for await (const _ of readRecords(path, () => undefined, hash));
  } catch (error) {
    throw changed(messageOf(error), error);
  }
  if (hash.digest('hex') !== digest) throw changed(`${path} is not the file that it began with`);
}

/** A file is found from any directory. */
function withPath(arg: string, inputs: readonly OperationInput[]): string {
  const input = inputs.find(({ argument }) => arg === argument || arg.endsWith(`=${argument}`));
  return input ? arg.slice(0, arg.length - input.argument.length) + input.path : arg;
}
