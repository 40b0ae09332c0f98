import { Args, Flags } from '@oclif/core';
import { DEFAULT_CELEBRITY_THRESHOLD } from './engine/model/celebrity.ts';
import { FeedctlError } from './engine/model/errors.ts';
import { parseId } from './engine/model/ids.ts';
import { SOCKETS } from './engine/resilience/limits.ts';

const idArg = (what: string) => Args.custom<number>({ parse: async (text) => parseId(text, what) });

/** Arguments and flags that several commands share. */
export const userArg = idArg('user');
export const postArg = idArg('post');

export const portFlag = Flags.integer({
  description: 'port of the gateway, 0 for a free one',
  default: 7070,
  min: 0,
  max: 65_535,
});
// With a default, or `dryRun` would be missing in the JSON where the flag is not given.
export const dryRunFlag = Flags.boolean({
  description: 'show what would be done, and change nothing',
  default: false,
});
export const yesFlag = Flags.boolean({ char: 'y', description: 'do not ask' });

/** A user, or undefined for all: "all" is never the default, it has to be said. */
export function oneOrAll(user: number | undefined, all = false): number | undefined {
  if ((user === undefined) !== all) {
    throw new FeedctlError(
      'USAGE',
      all ? 'pass a user or --all, not both' : 'whose feed? Pass a user, or --all for every one',
    );
  }
  return user;
}

/** `20-1000`, or `5` for from 5 to 5. */
export const rangeFlag = Flags.custom<[number, number]>({
  helpValue: '<from-to>',
  parse: async (text) => {
    const match = /^(\d{1,9})(?:-(\d{1,9}))?$/.exec(text);
    if (!match) throw new FeedctlError('USAGE', `${JSON.stringify(text)} is no range such as 20-1000`);
    return [Number(match[1]), Number(match[2] ?? match[1])];
  },
});

export const celebrityThresholdFlag = Flags.integer({
  description: 'authors with more followers are merged when a feed is read instead of fanned out',
  default: DEFAULT_CELEBRITY_THRESHOLD,
  min: 0,
});

/** Of the gateway's WebSockets. */
export const socketFlags = {
  origin: Flags.string({
    description:
      'let browsers in from pages of this origin only, e.g. https://app.example; may be given several times',
    env: 'FEEDCTL_ORIGIN',
    multiple: true,
    delimiter: ',',
  }),
  'sockets-per-user': Flags.integer({
    description: 'open sockets of one user; 0: any number',
    env: 'FEEDCTL_SOCKETS_PER_USER',
    default: SOCKETS.perUser,
    min: 0,
  }),
  'sockets-per-ip': Flags.integer({
    description: 'open sockets of one address; 0: any number',
    env: 'FEEDCTL_SOCKETS_PER_IP',
    default: SOCKETS.perIp,
    min: 0,
  }),
} as const;

export const socketOptions = (flags: {
  origin?: string[] | undefined;
  'sockets-per-user': number;
  'sockets-per-ip': number;
}) => ({
  origins: flags.origin,
  limits: { perUser: flags['sockets-per-user'], perIp: flags['sockets-per-ip'] },
});
