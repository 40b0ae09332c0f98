import { isDiskFull } from '../model/diskFull.ts';
import { FeedctlError, isFeedctlError, messageOf } from '../model/errors.ts';
import { isTlsError } from '../util/tls.ts';
import { withoutPassword } from './url.ts';

/** Codes of Node.js for a server that cannot be reached. */
const UNREACHABLE = new Set([
  'ECONNREFUSED',
  'ENOENT',
  'ENOTFOUND',
  'EAI_AGAIN',
  'ECONNRESET',
  'EPIPE',
  'ETIMEDOUT',
  'EACCES',
  'EHOSTUNREACH',
  'EHOSTDOWN',
  'ENETUNREACH',
  'ENETDOWN',
]);

interface Failure {
  /** SQLSTATE, or a code of Node.js. */
  readonly code: string;
  readonly text: string;
  readonly error: unknown;
}

const isLost = ({ code, text }: Failure): boolean =>
  UNREACHABLE.has(code) ||
  code.startsWith('08') ||
  code.startsWith('57P') ||
  code === '53300' ||
  code === '25P03' ||
  /timeout|terminated|Connection ended|not queryable/i.test(text);

/** Returns whether the schema, or one of its tables, is missing. */
const isSchemaMissing = ({ code }: Failure): boolean => code === '42P01' || code === '3F000';

/** Returns whether a server refused a write because it is a standby or read-only. */
export const isReadOnly = (error: unknown): boolean =>
  isFeedctlError(error)
    ? error.code === 'DATABASE_READ_ONLY'
    : (error as { code?: string } | undefined)?.code === '25006';

/** The driver's own errors about passwords have no code. Their text begins with SASL. */
const isRefused = ({ code, text }: Failure): boolean =>
  code.startsWith('28') || code === '42501' || text.startsWith('SASL');

const isTls = ({ error, text }: Failure): boolean =>
  isTlsError(error) || /does not support SSL|establishing an SSL connection/.test(text);

/** 57014 is the code of an operator's cancellation too. */
const isTimeout = ({ code, text }: Failure): boolean =>
  code === '55P03' || (code === '57014' && /timeout/i.test(text));

/**
 * Converts an error of the driver or the server to a FeedctlError. Returns FeedctlErrors unchanged.
 */
export function databaseError(error: unknown, url: string): FeedctlError {
  if (isFeedctlError(error)) return error;
  // The pool replaces an error that came late by an error without a reason.
  const { cause: reason } = error as { cause?: unknown };
  if (isFeedctlError(reason)) return reason;
  const text = messageOf(error);
  const failure = { code: (error as { code?: string }).code ?? '', text, error };
  const at = withoutPassword(url);
  const cause = { cause: error };
  if (failure.code === 'ERR_INVALID_URL')
    return new FeedctlError('CONFIG_INVALID', `the database URL cannot be read: ${at}`, cause);
  if ((error as { syscall?: string }).syscall === 'open')
    return new FeedctlError(
      'CONFIG_INVALID',
      `the database URL ${at} names a file that cannot be read: ${text}`,
      cause,
    );
  if (failure.code === '3D000') return new FeedctlError('DATABASE_NOT_FOUND', `${text} (${at})`, cause);
  if (isSchemaMissing(failure))
    return new FeedctlError(
      'SCHEMA_MISSING',
      `the database has no feedctl schema, or a part of it is missing: ${text}`,
      cause,
    );
  if (isDiskFull(error))
    return new FeedctlError('DISK_FULL', `the disk of the database ${at} is full: ${text}`, cause);
  if (isReadOnly(error))
    return new FeedctlError('DATABASE_READ_ONLY', `the database ${at} accepts no writes: ${text}`, cause);
  if (isRefused(failure))
    return new FeedctlError('DATABASE_REFUSED', `the database ${at} refuses: ${text}`, cause);
  if (isTls(failure))
    return new FeedctlError('DATABASE_TLS_FAILED', `no TLS with the database ${at}: ${text.trim()}`, cause);
  if (isTimeout(failure))
    return new FeedctlError('TIMED_OUT', `the database did not answer in time: ${text}`, cause);
  if (isLost(failure))
    return new FeedctlError('DATABASE_UNREACHABLE', `cannot reach the database ${at}: ${text}`, cause);
  return new FeedctlError('DATABASE_ERROR', `the database refused a statement: ${text}`, cause);
}

/**
 * Returns whether an error reports a row that exists already, or may exist. Citus hides the
 * SQLSTATE of a COPY that a node refused, so such an error counts too. Callers then insert row by
 * row, which shows the true reason.
 */
export function isDuplicate(error: unknown): boolean {
  const { code, routine } = error as { code?: string; routine?: string };
  return code === '23505' || (code === 'XX000' && routine === 'ReportCopyError');
}

/**
 * Converts errors for the callers of a database. Duplicates and aborts pass unchanged, because
 * callers decide by SQLSTATE and by name.
 */
export function explainError(error: unknown, url: string): Error {
  if (isDuplicate(error) || (error as Error).name === 'AbortError') return error as Error;
  return databaseError(error, url);
}
