// Writes docs/cli: the help of every command, a page for each topic.
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { stripVTControlCharacters } from 'node:util';
import { type Command, CommandHelp, Config } from '@oclif/core';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const FOLDER = 'docs/cli/';
const WIDTH = 110;

/** Returns pages by their path below the root. Needs the built commands. */
export async function reference(): Promise<Map<string, string>> {
  const config = await Config.load({ root: ROOT, version: '' });
  const byTopic = Map.groupBy(
    config.commands.filter(({ pluginName, hidden }) => pluginName === config.name && !hidden),
    ({ id }) => (id.includes(':') ? id.split(':')[0]! : ''),
  );
  const pages = new Map<string, string>();
  const contents: string[] = [];
  for (const [topic, commands] of [...byTopic].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const file = `${topic || 'feedctl'}.md`;
    const sorted = commands.toSorted((a, b) => (a.id < b.id ? -1 : 1));
    pages.set(FOLDER + file, `${sorted.map((command) => section(command, config)).join('\n')}`);
    contents.push(...sorted.map((one) => `| [\`${nameOf(one)}\`](${file}) | ${one.summary ?? ''} |`));
  }
  const all = GLOBAL.exec(helpOf(config.findCommand('version', { must: true }), config))![0].trim();
  const fence = '```';
  const table = ['| Command | |', '| --- | --- |', ...contents].join('\n');
  pages.set(
    `${FOLDER}README.md`,
    [
      '# Commands',
      'The output of `--help` for each command. Flags of all commands:',
      `${fence}\n${all}\n${fence}`,
      `${table}\n`,
    ].join('\n\n'),
  );
  return pages;
}

const nameOf = ({ id }: Command.Loadable): string => `feedctl ${id.replaceAll(':', ' ')}`;

/** Global flags are on the first page only. */
const GLOBAL = /^GLOBAL FLAGS\n(?: +.*\n)+\n/m;

function section(command: Command.Loadable, config: Config): string {
  return `## ${nameOf(command)}\n\n\`\`\`\n${helpOf(command, config).replace(GLOBAL, '')}\n\`\`\`\n`;
}

function helpOf(command: Command.Loadable, config: Config): string {
  const named = { ...command, id: command.id.replaceAll(':', ' ') };
  const help = new CommandHelp(named, config, { maxWidth: WIDTH, stripAnsi: true, docopts: false });
  return stripVTControlCharacters(help.generate()).replaceAll(/ +$/gm, '').trim();
}

if (import.meta.main) {
  const made = await reference();
  rmSync(ROOT + FOLDER, { recursive: true, force: true });
  mkdirSync(ROOT + FOLDER, { recursive: true });
  for (const [path, text] of made) writeFileSync(ROOT + path, text);
}
