import { Flags } from '@oclif/core';
import { type Config, flagsOnly, type SettingName } from '../engine/config/config.ts';
import { SETTINGS } from '../engine/config/settings.ts';
import { FeedctlError } from '../engine/model/errors.ts';
import { BaseCommand, settingsOf } from './baseCommand.ts';

const fileFlag = (flag: string, of: string) =>
  Flags.string({ description: `file with the ${of}, for one with a password`, exclusive: [flag] });

/** Flags for servers that need a password. */
export const serverFiles = {
  'broker-url-file': fileFlag('broker-url', 'URLs of the RabbitMQ brokers'),
  'cache-url-file': fileFlag('cache-url', 'URL of Redis'),
};
export const databaseFile = { 'database-url-file': fileFlag('database-url', 'URL of the database') };

const FILES: Readonly<Record<string, SettingName>> = {
  'database-url-file': 'databaseUrl',
  'broker-url-file': 'brokerUrl',
  'cache-url-file': 'cacheUrl',
};
const SERVERS = ['databaseUrl', 'brokerUrl', 'cacheUrl'] as const;

/** Base of the commands that fill a cluster and remove it again: only their own flags name servers. */
export abstract class TemporaryCommand extends BaseCommand {
  protected override async readConfig(flags: Record<string, unknown>): Promise<Config> {
    const { context: _, ...settings } = settingsOf(flags);
    if (this.argv.some((word) => word === '--context' || word.startsWith('--context=')))
      throw new FeedctlError('USAGE', 'this command takes no servers from a context', {
        suggestions: [
          'Omit --context: a temporary cluster needs no servers.',
          'Or name empty servers with --broker-url and --cache-url.',
        ],
      });
    const files = Object.entries(FILES).flatMap(([flag, name]) =>
      typeof flags[flag] === 'string' ? [[name, flags[flag]]] : [],
    );
    const config = await flagsOnly(settings, Object.fromEntries(files));
    for (const name of SERVERS) {
      const { flag, variable } = SETTINGS[name];
      if (process.env[variable] && config[name] === undefined)
        process.stderr.write(
          `${variable} is not used: this command takes servers from flags only (--${flag}).\n`,
        );
    }
    return config;
  }
}
