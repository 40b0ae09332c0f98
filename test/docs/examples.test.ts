import { fileURLToPath } from 'node:url';
import { Config, Flags, Parser } from '@oclif/core';
import { expect, test } from 'vitest';

const config = await Config.load({ root: fileURLToPath(new URL('../..', import.meta.url)), version: '' });
const commands = config.commands.filter(({ pluginName }) => pluginName === config.name);

/**
 * Returns the words of feedctl's part of a line: up to a pipe or a redirection, after a pipe, or in
 * `$(…)`.
 */
function words(line: string): string[] {
  const own = /\$\((feedctl .*?)\)|^(?!feedctl).*\| (feedctl .*)$/.exec(line)?.slice(1).find(Boolean) ?? line;
  const all = [...own.matchAll(/'([^']*)'|"([^"]*)"|(\S+)/g)].map(
    ([, single, double, bare]) => single ?? double ?? bare!,
  );
  const end = all.findIndex((word) => /^(\||>>?)$/.test(word));
  return all.slice(0, end === -1 ? undefined : end).filter((word) => !/^[A-Z_]+=/.test(word));
}

test.each(commands.map(({ id }) => id))(
  'two examples of `%s` at least, and the command takes them',
  async (id) => {
    const command = await config.findCommand(id, { must: true }).load();
    const examples = (command.examples ?? []).map((one) => (typeof one === 'string' ? one : one.command));
    expect(examples.length).toBeGreaterThanOrEqual(2);
    for (const example of examples) {
      const [bin, ...argv] = words(example.replace('<%= config.bin %>', 'feedctl'));
      const name = id.split(':');
      expect([bin, ...argv.slice(0, name.length)], example).toEqual(['feedctl', ...name]);
      await Parser.parse(argv.slice(name.length), {
        args: command.args,
        flags: { json: Flags.boolean(), ...command.baseFlags, ...command.flags },
        strict: command.strict ?? true,
        '--': true,
      });
    }
  },
);
