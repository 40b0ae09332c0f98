import { createHash } from 'node:crypto';
import type { Database } from '../database/database.ts';
import { readRecords } from '../files/records.ts';
import { FeedctlError, messageOf } from '../model/errors.ts';
import type { OperationInput } from '../model/operation.ts';
import { poll } from '../util/poll.ts';
import { cancelInterrupted, getCommand, getOperation, type OperationRow, requestCancel } from './table.ts';

const POLL_MS = 200;

export interface CancelResult {
  readonly id: number;
  /** `running`: the operation was asked to stop and has not stopped in time. */
  readonly state: OperationRow['state'];
  /** State before the cancellation. */
  readonly was: OperationRow['state'];
  readonly dryRun: boolean;
}

/**
 * Ends an operation. A running one stops at its next safe point, in whichever process it runs. An
 * interrupted or failed one can no longer be resumed. Finished work stays.
 * Throws OPERATION_NOT_FOUND or OPERATION_NOT_CANCELLABLE.
 */
export async function cancelOperation(
  db: Database,
  id: number,
  options: { by: string; dryRun: boolean; waitMs: number; signal: AbortSignal },
): Promise<CancelResult> {
  const { by, dryRun, waitMs, signal } = options;
  const first = await getOperation(db, id);
  const was = first.state;
  const cancelled: CancelResult = { id, state: 'cancelled', was, dryRun };
  refuseEnded(first, was);
  if (dryRun) return cancelled;
  const isCancelled = async (): Promise<boolean> => {
    const operation = await getOperation(db, id);
    if (operation.state === 'cancelled') return true;
    refuseEnded(operation, was);
    // False if another process has resumed the operation meanwhile.
    if (operation.state !== 'running') return (await cancelInterrupted(db, id, by)) || isCancelled();
    // False if the operation has ended or may no longer be cancelled.
    const asked = operation.cancelRequestedAt !== null || (await requestCancel(db, id, by));
    return asked ? false : isCancelled();
  };
  const ended = await poll(isCancelled, { everyMs: POLL_MS, timeoutMs: waitMs, signal }).catch((error) => {
    if (!signal.aborted) throw error;
    return false;
  });
  return ended ? cancelled : { id, state: 'running', was, dryRun };
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
      state === 'running' ? 'Wait until it is done.' : `Resume it: \`feedctl operation resume ${id}\`.`,
    ]);
}

/**
 * Returns the command line that resumes an operation, and the key of its work. Checks that the input
 * files have not changed. Throws OPERATION_NOT_FOUND, OPERATION_NOT_RESUMABLE, OPERATION_RUNNING or
 * OPERATION_INPUT_CHANGED.
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
    throw new FeedctlError('OPERATION_RUNNING', `operation ${id} is running, by ${who ?? 'an unknown user'}`);
  if (state === 'done' || state === 'cancelled') throw refuse(state === 'done' ? 'is done' : 'was cancelled');
  if (later !== undefined)
    throw refuse(`is not the last of this work: operation ${later} is newer`, [
      `See \`feedctl operation show ${later}\`.`,
    ]);
  if (!command)
    throw refuse('was not started by a command', [
      // `halfDone` names the commands that finish it.
      `A worker resumes it automatically${operation.halfDone ? `; or: ${operation.halfDone}.` : '.'}`,
    ]);
  for (const input of command.inputs) await checkInput(id, input);
  const args = command.args.map((arg) => withPath(arg, command.inputs));
  return { command: command.id, args, key: operation.key };
}

async function checkInput(id: number, { path, digest }: OperationInput): Promise<void> {
  const changed = (why: string, cause?: unknown) =>
    new FeedctlError('OPERATION_INPUT_CHANGED', `operation ${id} cannot be resumed: ${why}`, { cause });
  const hash = createHash('sha256');
  try {
    for await (const _ of readRecords(path, () => undefined, hash));
  } catch (error) {
    throw changed(messageOf(error), error);
  }
  if (hash.digest('hex') !== digest) throw changed(`${path} is not the file that it began with`);
}

/** Replaces a relative file name by its path: the command may run in another directory. */
function withPath(arg: string, inputs: readonly OperationInput[]): string {
  const input = inputs.find(({ argument }) => arg === argument || arg.endsWith(`=${argument}`));
  return input ? arg.slice(0, arg.length - input.argument.length) + input.path : arg;
}
